//! Where CPython's cyclic garbage collector begins and ends a collection.

use object::ReadRef;

use super::files::FunctionPlace;
use crate::process::elf::Image;
use crate::process::insn;
use crate::process::insn::Placement;
use crate::process::stapsdt;

/// The probes that `--with-dtrace` builds in (`Include/pydtrace.d`): around the collection itself,
/// without what `gc.callbacks` do.
const PROBES: [&str; 2] = ["gc__start", "gc__done"];
/// The function of a collection: the first up to 3.9, the second from then on
/// (`Modules/gcmodule.c`; `Python/gc.c` from 3.13 on). From 3.13 on it calls `gc.callbacks` itself.
const FUNCTIONS: [&str; 2] = ["collect", "gc_collect_main"];
/// Pieces that a compiler makes of it.
const MAX_PIECES: usize = 8;
/// Longer functions are not looked through: it has some 5,000 bytes.
const MAX_FUNCTION_BYTES: u64 = 1 << 16;

/// The places of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CollectorPlaces {
    pub begins: Vec<FunctionPlace>,
    pub ends: Vec<FunctionPlace>,
}

impl CollectorPlaces {
    /// Of the interpreter in a file, or why they are not known.
    pub fn of<'data, R: ReadRef<'data>>(image: &Image<'data, R>) -> Result<Self, String> {
        let found = by_probes(image).or_else(|| by_symbols(image));
        let is_whole = |it: &Self| !it.begins.is_empty() && !it.ends.is_empty();
        found.filter(is_whole).ok_or_else(|| {
            "its garbage collector is not to be found: it was built without --with-dtrace, \
             and has no symbols"
                .to_owned()
        })
    }
}

/// Each behind the test of a semaphore: mostly the jump that depends on it, which is cheap.
fn by_probes<'data, R: ReadRef<'data>>(image: &Image<'data, R>) -> Option<CollectorPlaces> {
    let [begins, ends] = stapsdt::tests(image, "python", PROBES);
    if begins.is_empty() || ends.is_empty() {
        return None;
    }
    let places = |tests: &[u64]| -> Option<Vec<FunctionPlace>> {
        tests.iter().map(|&test| cheap(image, test)).collect()
    };
    Some(CollectorPlaces {
        begins: places(&begins)?,
        ends: places(&ends)?,
    })
}

fn by_symbols<'data, R: ReadRef<'data>>(image: &Image<'data, R>) -> Option<CollectorPlaces> {
    let newest_first = FUNCTIONS.iter().rev();
    let mut pieces = newest_first.map(|function| {
        // `collect.constprop.0`, `gc_collect_main.cold`
        let is_piece = |name: &[u8]| {
            let rest = name.strip_prefix(function.as_bytes());
            rest.is_some_and(|rest| rest.first().is_none_or(|&next| next == b'.'))
        };
        image.functions(is_piece, MAX_PIECES)
    });
    let pieces = pieces.find(|pieces| !pieces.is_empty())?;
    let mut places = CollectorPlaces {
        begins: Vec::new(),
        ends: Vec::new(),
    };
    for &(name, address, bytes) in &pieces {
        let code = image.bytes(address, bytes.min(MAX_FUNCTION_BYTES))?;
        // What rarely runs is put elsewhere, and jumped to.
        let is_cold = name.windows(5).any(|part| part == b".cold");
        if !is_cold {
            places.begins.push(cheap(image, address)?);
        }
        let is_within = |target: u64| {
            pieces
                .iter()
                .any(|&(_, begin, bytes)| target.checked_sub(begin).is_some_and(|at| at < bytes))
        };
        for end in insn::ends(image.machine(), address, code, is_within) {
            places.ends.push(place(image, address, end)?);
        }
    }
    Some(places)
}

/// The cheapest place that is passed whenever this one is.
fn cheap<'data, R: ReadRef<'data>>(image: &Image<'data, R>, address: u64) -> Option<FunctionPlace> {
    let code = image.bytes(address, insn::FUNCTION_BYTES)?;
    place(image, address, insn::place(image.machine(), code))
}

fn place<'data, R: ReadRef<'data>>(
    image: &Image<'data, R>,
    address: u64,
    placement: Placement,
) -> Option<FunctionPlace> {
    let file_offset = image.file_offset(address.wrapping_add(placement.offset))?;
    Some(FunctionPlace {
        file_offset,
        placement,
    })
}
