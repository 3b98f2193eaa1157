//! Where in an interpreter programs are attached.

use crate::cpython::target::{Interpreter, ProbePoint};
use observer_model::Untrusted;
use serde::Serialize;

/// A place that a program is attached to.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What the program sees there.
    pub sees: &'static str,
    /// Name of the place.
    pub place: &'static str,
    /// Path from outside the process's root.
    pub file: Untrusted,
    /// Offset of the instruction in the file.
    pub file_offset: u64,
    /// Offset of the instruction from the function's entry.
    pub entry_offset: u64,
    /// The kernel single-steps the instruction instead of emulating it: several times as slow.
    pub single_stepped: bool,
}

/// A probe without a place, and the reason.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    pub what: &'static str,
    pub why: Untrusted,
}

const REQUESTS: &str = "requests";
const HANDLED: &str = "handled exceptions";
const DEEP_CAPTURE: &str = "deep capture";
const COLLECTIONS: &str = "garbage collections";

impl Probe {
    fn at(sees: &'static str, place: &'static str, point: &ProbePoint) -> Self {
        Self {
            sees,
            place,
            file: point.path_to_open.display().to_string().into(),
            file_offset: point.file_offset,
            entry_offset: point.placement.offset,
            single_stepped: !point.placement.emulated,
        }
    }
}

/// The places in an interpreter, and what has no place in it.
pub fn of(interpreter: &Interpreter) -> (Vec<Probe>, Vec<Unseen>) {
    let mut probes = vec![Probe::at(REQUESTS, "datetime.now", &interpreter.now)];
    let mut unseen = Vec::new();
    let mut missing = |what, why: &Untrusted| {
        let why = why.clone();
        unseen.push(Unseen { what, why });
    };
    match &interpreter.handled {
        Ok(points) => probes.extend(
            ["sys.exc_info", "sys.exception"]
                .into_iter()
                .zip(points)
                .map(|(place, point)| Probe::at(HANDLED, place, point)),
        ),
        Err(why) => missing(HANDLED, why),
    }
    match &interpreter.deep_capture {
        Ok(point) => probes.push(Probe::at(DEEP_CAPTURE, "PyTraceBack_Here", point)),
        Err(why) => missing(DEEP_CAPTURE, why),
    }
    match &interpreter.collector {
        Ok(collector) => {
            let begins = collector.begins.iter().map(|point| ("begin", point));
            let ends = collector.ends.iter().map(|point| ("end", point));
            let all = begins.chain(ends);
            probes.extend(all.map(|(place, point)| Probe::at(COLLECTIONS, place, point)));
        }
        Err(why) => missing(COLLECTIONS, why),
    }
    (probes, unseen)
}
