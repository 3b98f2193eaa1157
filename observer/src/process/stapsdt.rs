//! Probes that a program was built with for SystemTap, as CPython's `--with-dtrace` does: the code
//! of one runs only while its semaphore, a counter in the program's memory, is not zero. We do not
//! write to memory of others: what is of use here is the test of the semaphore, which always runs.
//!
//! The notes: <https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>.

use super::elf::Image;
use object::ReadRef;

/// More code is not searched: Python itself has 4 MiB.
const MAX_CODE_BYTES: usize = 64 << 20;
/// Places where a semaphore is tested: a compiler makes a few of one.
const MAX_TESTS: usize = 16;

/// A probe of a program.
#[derive(Debug, PartialEq, Eq)]
struct Probe<'data> {
    provider: &'data [u8],
    name: &'data [u8],
    /// Where the section `.stapsdt.base` was when the addresses were written.
    base: u64,
    /// Address of its semaphore; 0 without one.
    semaphore: u64,
}

/// Where a program tests the semaphores of a provider's probes: of each of these names.
pub fn tests<'data, R: ReadRef<'data>, const N: usize>(
    image: &Image<'data, R>,
    provider: &str,
    names: [&str; N],
) -> [Vec<u64>; N] {
    let notes = image.section(".note.stapsdt").map_or(&[][..], |(_, it)| it);
    let base = image.section(".stapsdt.base").map(|(address, _)| address);
    let semaphores = names.map(|name| {
        let is_it =
            |probe: &Probe| probe.provider == provider.as_bytes() && probe.name == name.as_bytes();
        let probe = Notes(notes).find(is_it)?;
        // Prelinking moves the sections, and not what the notes say of them.
        let moved = base.map_or(0, |base| base.wrapping_sub(probe.base));
        (probe.semaphore != 0).then(|| probe.semaphore.wrapping_add(moved))
    });
    let mut found = names.map(|_| Vec::new());
    if semaphores.iter().any(Option::is_none) {
        return found;
    }
    for (address, code) in image.code() {
        for (test, semaphore) in tests_in(address, code.get(..MAX_CODE_BYTES).unwrap_or(code)) {
            for (found, wanted) in found.iter_mut().zip(semaphores) {
                if wanted == Some(semaphore) && found.len() < MAX_TESTS {
                    found.push(test);
                }
            }
        }
    }
    found
}

/// Every comparison of a 16-bit word in memory with zero, on x86-64 (`66 83 /7 ib` of the Intel
/// manual, relative to the next instruction or absolute): where it is, and of what.
fn tests_in(address: u64, code: &[u8]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let is_x86 = cfg!(target_arch = "x86_64");
    let places = if is_x86 { code } else { &[] };
    let places = places.windows(9).zip(0_u64..);
    let places = places.map(move |(bytes, offset)| (bytes, address.wrapping_add(offset)));
    places.filter_map(|(bytes, at)| match *bytes {
        [0x66, 0x83, 0x3d, a, b, c, d, 0, _] => {
            let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
            Some((at, at.wrapping_add(8).wrapping_add_signed(distance)))
        }
        [0x66, 0x83, 0x3c, 0x25, a, b, c, d, 0] => {
            Some((at, u64::from(u32::from_le_bytes([a, b, c, d]))))
        }
        _ => None,
    })
}

/// The notes of `.note.stapsdt`: each has three sizes, then a name and a description, padded to
/// whole words of 4 bytes.
struct Notes<'data>(&'data [u8]);

impl<'data> Iterator for Notes<'data> {
    type Item = Probe<'data>;

    fn next(&mut self) -> Option<Probe<'data>> {
        let mut number = || {
            let (bytes, rest) = self.0.split_first_chunk()?;
            self.0 = rest;
            usize::try_from(u32::from_le_bytes(*bytes)).ok()
        };
        let (name, description, _kind) = (number()?, number()?, number()?);
        let mut field = |len: usize| {
            let (bytes, rest) = self.0.split_at_checked(len.checked_next_multiple_of(4)?)?;
            self.0 = rest;
            bytes.get(..len)
        };
        let (_name, description) = (field(name)?, field(description)?);
        probe(description)
    }
}

/// Three addresses, then three strings: provider, name, arguments.
fn probe(description: &[u8]) -> Option<Probe<'_>> {
    let (addresses, strings) = description.split_first_chunk::<24>()?;
    let (words, _) = addresses.as_chunks::<8>();
    let mut strings = strings.split(|&byte| byte == 0);
    Some(Probe {
        provider: strings.next()?,
        name: strings.next()?,
        base: u64::from_le_bytes(*words.get(1)?),
        semaphore: u64::from_le_bytes(*words.get(2)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &str, semaphore: u64) -> Vec<u8> {
        let mut description = Vec::new();
        for word in [0x1000, 0x2000, semaphore] {
            description.extend(u64::to_le_bytes(word));
        }
        description.extend(format!("python\0{name}\0-4@%eax\0").bytes());
        let mut note = Vec::new();
        for number in [8, description.len(), 3] {
            note.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        note.extend(b"stapsdt\0");
        note.extend(&description);
        note.resize(note.len().next_multiple_of(4), 0);
        note
    }

    #[test]
    fn probes_are_read_from_their_notes() {
        let notes = [note("gc__start", 0xa8_426e), note("gc__done", 0xa8_4270)].concat();
        let found: Vec<_> = Notes(&notes).map(|it| (it.name, it.semaphore)).collect();
        assert_eq!(
            found,
            [
                (&b"gc__start"[..], 0xa8_426e),
                (&b"gc__done"[..], 0xa8_4270)
            ]
        );
        for len in 0..notes.len() {
            assert!(Notes(&notes[..len]).count() < 2);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_tests_of_a_semaphore_are_found() {
        // Debian's 3.11: cmpw $0x0,0x579d14(%rip); jne
        let code = [
            0x90, 0x66, 0x83, 0x3d, 0x14, 0x9d, 0x57, 0x00, 0x00, 0x0f, 0x85,
        ];
        let found: Vec<_> = tests_in(0x50_a551, &code).collect();
        assert_eq!(found, [(0x50_a552, 0xa8_426e)]);
        // cmpw $0x0,0xa8426e
        let absolute = [0x66, 0x83, 0x3c, 0x25, 0x6e, 0x42, 0xa8, 0x00, 0x00];
        let found: Vec<_> = tests_in(0x1000, &absolute).collect();
        assert_eq!(found, [(0x1000, 0xa8_426e)]);
        // cmpw $0x1,…
        let other = [0x66, 0x83, 0x3d, 0, 0, 0, 0, 1, 0];
        assert_eq!(tests_in(0, &other).count(), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = Notes(&bytes).count();
            let _ = tests_in(u64::MAX - 8, &bytes).count();
        }
    }
}
