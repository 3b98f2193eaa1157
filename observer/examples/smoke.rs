use observer::probe::*;
use probe_ebpf::abi::*;
fn main() -> anyhow::Result<()> {
    let a: Vec<String> = std::env::args().collect();
    tracefs::ensure()?;
    let mut e = load::load()?;
    load::attach_host(&mut e)?;
    load::attach_interpreter(&mut e, std::path::Path::new(&a[2]), 0x12960)?;
    let mut t = tables::Tables::take(&mut e)?;
    let layout = t.layout(&probe_ebpf::python::tables::CPYTHON_3_11)?;
    let totals = totals::Totals::take(&mut e, Default::default())?;
    let mut ring = aya::maps::RingBuf::try_from(e.take_map("EVENTS").unwrap())?;
    for p in a[3..].iter() {
        t.set_target(
            p.parse()?,
            Role::Worker,
            Target {
                layout,
                tstate_slot: a[1].parse()?,
                generation: 7,
                role: 0,
            },
        )?;
    }
    println!("ready");
    for _ in 0..80 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        while let Some(i) = ring.next() {
            let k = u16::from_le_bytes([i[0], i[1]]);
            if k != 1 {
                println!("kind {k} {:?}", &i[4..8]);
                continue;
            }
            let w = |o: usize| u64::from_le_bytes(i[o..o + 8].try_into().unwrap());
            let d = |o: usize| u32::from_le_bytes(i[o..o + 4].try_into().unwrap());
            let h = |o: usize| u16::from_le_bytes(i[o..o + 2].try_into().unwrap());
            let t0 = w(16 + 16);
            let rel: Vec<i64> = (0..7)
                .map(|n| {
                    if w(16 + 8 * n) == 0 {
                        -1
                    } else {
                        (w(16 + 8 * n) as i64 - t0 as i64) / 1000
                    }
                })
                .collect();
            let len = h(16 + 72 + 16 + 4) as usize;
            println!(
                "t {rel:?} req {} resp {} rh {} sh {} fd {} ord {} status {} flags {:b} src {} line {:?}",
                w(72),
                w(80),
                d(88),
                d(92),
                d(96),
                d(100),
                h(104),
                h(106),
                h(110),
                String::from_utf8_lossy(&i[120..120 + len.min(60)])
            );
        }
    }
    println!("{:?}", totals.read());
    println!("{:?}", t.entries());
    Ok(())
}
