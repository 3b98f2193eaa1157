//! What the observer tells, by the programs that each thing takes, and what it costs to be without.
//! A program that a kernel refuses takes its own feature away and no other: the table here is all
//! that says which.

use super::programs;
use serde::Serialize;
use std::collections::BTreeMap;

/// Something that the observer tells.
#[derive(Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// Without one of these it is not there. Each program is of one feature.
    pub programs: &'static [&'static str],
    /// What is missing then.
    pub without: &'static str,
    /// Nothing can be observed without.
    pub is_needed: bool,
}

const fn feature(
    name: &'static str,
    programs: &'static [&'static str],
    without: &'static str,
) -> Feature {
    Feature {
        name,
        programs,
        without,
        is_needed: false,
    }
}

/// All of them.
pub const FEATURES: &[Feature] = &[
    Feature {
        name: "processes",
        programs: &["process_fork", "process_exec", "process_exit"],
        without: "`run` does not work: workers would not be followed",
        is_needed: true,
    },
    feature(
        "requests",
        &["datetime_now"],
        "requests are told by their sockets alone, as at the level `socket`",
    ),
    feature(
        "connections",
        &["exit_accept4", "enter_close", "connection_closes"],
        "requests have no times before the application, no route and no status",
    ),
    feature(
        "requests as sent",
        &["exit_recvfrom", "enter_recvfrom", "request_read"],
        "requests have no route, method and size",
    ),
    feature(
        "responses",
        &["exit_sendto", "enter_sendto", "response_begins"],
        "requests have no status, and responses no size",
    ),
    feature(
        "files sent",
        &["exit_sendfile", "enter_sendfile"],
        "the size of a response lacks what was sent by `sendfile`",
    ),
    feature(
        "uvloop and asyncio",
        &[
            "exit_accept",
            "exit_sendmsg",
            "enter_sendmsg",
            "exit_read",
            "enter_read",
            "exit_write",
            "enter_write",
            "exit_writev",
            "enter_writev",
        ],
        "requests of workers on uvloop are not counted, and of those on asyncio long responses have no end",
    ),
    feature(
        "waits to be accepted",
        &["socket_established"],
        "the phase `queue` is not told of TCP connections",
    ),
    feature(
        "waits to be accepted on Unix sockets",
        &["exit_connect", "enter_connect"],
        "the phase `queue` is not told of connections to Unix sockets",
    ),
    feature(
        "signals",
        &["signal_generated"],
        "signals are not counted, and the reason of an end that one brought about is a guess or `unknown`",
    ),
    feature(
        "stacks at timeouts",
        &["signal_delivered", "stack_of_thread"],
        "where a worker hung at a WORKER TIMEOUT is not told",
    ),
    feature(
        "kills for want of memory",
        &["oom_victim"],
        "an end for want of memory has the reason `crash`",
    ),
    feature(
        "exceptions",
        &["exception_asked"],
        "of a 5xx that the framework answered, class and function are `unknown` more often",
    ),
    feature(
        "closer looks at exceptions",
        &["exception_unwound"],
        "exceptions that nobody asks for stay `unknown`",
    ),
    feature(
        "collections of garbage",
        &["collection_begins", "collection_ends"],
        "pauses for garbage are not told",
    ),
    feature(
        "waits for the GIL",
        &["exit_futex", "enter_futex"],
        "`--gil` tells nothing",
    ),
];

/// The feature a program is of. That of a second program is the first one's.
#[must_use]
pub fn of(program: &str) -> Option<&'static Feature> {
    let program = programs::first_of(program).unwrap_or(program);
    FEATURES
        .iter()
        .find(|feature| feature.programs.contains(&program))
}

/// Why a program could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub program: String,
    /// In one line.
    pub why: String,
    /// What the kernel's verifier said; empty if it was not that which refused.
    pub log: String,
}

/// The features that a kernel does not let us have: the first refusal of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absent(BTreeMap<&'static str, Refusal>);

impl Absent {
    /// A program was refused.
    pub fn add(&mut self, refusal: Refusal) {
        if let Some(feature) = of(&refusal.program) {
            self.0.entry(feature.name).or_insert(refusal);
        }
    }

    /// Whether all of a program's feature is there.
    #[must_use]
    pub fn allows(&self, program: &str) -> bool {
        of(program).is_none_or(|feature| !self.0.contains_key(feature.name))
    }

    /// Why a feature is absent, if it is.
    #[must_use]
    pub fn why(&self, feature: &Feature) -> Option<&Refusal> {
        self.0.get(feature.name)
    }

    /// What is absent, and why.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Feature, &Refusal)> {
        let all = FEATURES.iter();
        all.filter_map(|feature| Some((feature, self.why(feature)?)))
    }

    /// One that nothing works without.
    #[must_use]
    pub fn needed(&self) -> Option<&Refusal> {
        let mut needed = self.iter().filter(|(feature, _)| feature.is_needed);
        needed.next().map(|(_, refusal)| refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_ebpf::abi::Tail;

    fn refusal(program: &str) -> Refusal {
        Refusal {
            program: program.to_owned(),
            why: "too large".to_owned(),
            log: String::new(),
        }
    }

    #[test]
    fn each_program_is_of_exactly_one_feature() {
        let attached = programs::all().map(|(program, _)| program);
        let tails = Tail::ALL.map(|(_, program)| program);
        let mut expected: Vec<_> = attached
            .chain(tails)
            .chain([programs::STACK_TAIL])
            .collect();
        let mut listed: Vec<_> = FEATURES
            .iter()
            .flat_map(|it| it.programs.to_vec())
            .collect();
        expected.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, expected);
        for (again, _) in programs::second() {
            assert!(of(again).is_some(), "{again}");
        }
    }

    #[test]
    fn a_refused_program_takes_its_own_feature_and_no_other() {
        let mut absent = Absent::default();
        absent.add(refusal("request_read"));
        absent.add(refusal("enter_recvfrom"));
        let names: Vec<_> = absent.iter().map(|(feature, _)| feature.name).collect();
        assert_eq!(names, ["requests as sent"]);
        assert!(!absent.allows("exit_recvfrom") && absent.allows("exit_sendto"));
        assert_eq!(absent.needed(), None);
        absent.add(refusal("process_exit"));
        assert_eq!(absent.needed(), Some(&refusal("process_exit")));
    }
}
