use observer::probe::*;
fn main() -> anyhow::Result<()> {
    tracefs::ensure()?;
    println!("{:?}", kernel::offsets()?);
    println!("{:?}", tracefs::offsets()?);
    let mut e = load::load()?;
    load::attach_host(&mut e)?;
    let id = load::attach_interpreter(&mut e, std::path::Path::new("/usr/bin/python3.11"), 0x1000)?;
    load::detach_interpreter(&mut e, id)?;
    for (n, p) in e.programs() { let i = p.info()?; println!("{n} insns {:?} xlated {:?}", i.verified_instruction_count(), i.size_translated()); }
    for (n, m) in e.maps() { println!("{n} {:?}", std::mem::size_of_val(m)); }
    Ok(())
}
