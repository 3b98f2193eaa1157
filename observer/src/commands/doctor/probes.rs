//! Where programs go in an interpreter, and what each costs there.

use crate::cpython::target::{Interpreter, ProbePoint};
use serde::Serialize;

/// A place that a program is attached to.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What is seen there.
    pub sees: &'static str,
    /// Where it is, as people name it.
    pub place: &'static str,
    /// From outside of the process's root.
    pub file: String,
    /// Of the instruction in the file.
    pub file_offset: u64,
    /// Of it from the function's entry.
    pub entry_offset: u64,
    /// The kernel does not emulate the instruction: it costs several times as much.
    pub single_stepped: bool,
}

/// What cannot be seen, and why.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    pub what: &'static str,
    pub why: String,
}

const REQUESTS: &str = "requests";
const HANDLED: &str = "handled exceptions";
const UNWOUND: &str = "closer looks at exceptions";
const COLLECTIONS: &str = "collections of garbage";

impl Probe {
    fn at(sees: &'static str, place: &'static str, point: &ProbePoint) -> Self {
        Self {
            sees,
            place,
            file: point.path_to_open.display().to_string(),
            file_offset: point.file_offset,
            entry_offset: point.placement.offset,
            single_stepped: !point.placement.emulated,
        }
    }
}

/// All places of an interpreter, and what it has no place for.
pub fn of(interpreter: &Interpreter) -> (Vec<Probe>, Vec<Unseen>) {
    let mut probes = vec![Probe::at(REQUESTS, "datetime.now", &interpreter.now)];
    let mut unseen = Vec::new();
    let mut missing = |what, why: &String| {
        let why = why.clone();
        unseen.push(Unseen { what, why });
    };
    match &interpreter.asked {
        Ok(points) => probes.extend(
            ["sys.exc_info", "sys.exception"]
                .into_iter()
                .zip(points)
                .map(|(place, point)| Probe::at(HANDLED, place, point)),
        ),
        Err(why) => missing(HANDLED, why),
    }
    match &interpreter.unwound {
        Ok(point) => probes.push(Probe::at(UNWOUND, "PyTraceBack_Here", point)),
        Err(why) => missing(UNWOUND, why),
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
