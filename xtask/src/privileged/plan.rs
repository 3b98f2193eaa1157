//! Which privileged tests run, and which of them side by side.

use anyhow::{Context as _, Result};

use crate::programs::Program;

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything once, at its most telling.
    Quick,
    Full,
}

/// One test to run.
#[derive(Debug)]
pub struct Test<'a> {
    pub program: &'a Program,
    pub name: String,
    /// It runs while others do.
    pub is_beside: bool,
}

/// A file of tests.
pub struct File {
    name: &'static str,
    /// Why its tests need the host for themselves; without a reason they run while others do.
    alone: Option<&'static str>,
    left_out: &'static [LeftOut],
}

/// A test that only the full run has.
pub struct LeftOut {
    pub test: &'static str,
    pub reason: &'static str,
}

const fn beside(name: &'static str) -> File {
    File {
        name,
        alone: None,
        left_out: &[],
    }
}

const fn alone(name: &'static str, reason: &'static str) -> File {
    File {
        name,
        alone: Some(reason),
        left_out: &[],
    }
}

impl File {
    const fn without(self, left_out: &'static [LeftOut]) -> Self {
        Self { left_out, ..self }
    }
}

/// The files of `tests/tests`, in the order they run.
pub const FILES: &[File] = &[
    beside("errors"),
    beside("timeouts"),
    beside("reasons"),
    beside("starts"),
    beside("matrix"),
    beside("dashboard"),
    beside("dashboard_use"),
    beside("lifecycle"),
    beside("socket_level"),
    beside("exact_counts"),
    beside("http_cases"),
    beside("bad_requests"),
    beside("containers"),
    beside("pods"),
    beside("capabilities"),
    beside("image"),
    beside("interpreters"),
    beside("collections"),
    beside("phases"),
    beside("stack"),
    beside("top"),
    beside("trace"),
    beside("unit"),
    beside("usage"),
    beside("web"),
    beside("chart"),
    beside("dist"),
    beside("harness"),
    beside("replay"),
    alone("commands", "counts what is loaded in the kernel"),
    alone("stability", "counts what is loaded in the kernel"),
    alone("prometheus", "counts what is loaded in the kernel"),
    alone("loss", "overflows the ring buffer by exact counts"),
    alone("many_workers", "measures the observer's CPU"),
    alone("mixed_masters", "loads the host"),
    alone("scale", "measures memory and the time of scrapes"),
    alone("saturation", "compares durations with clients' clocks"),
    alone("gil", "compares waits with threads' clocks"),
    alone("kernels", "limits what the kernel loads"),
    alone("rules", "fires alerts over the whole fleet"),
    alone("garbage", "kills masters while the host is searched"),
    alone("hostile", "fills the host with impostors"),
];

fn file(name: &str) -> Result<&'static File> {
    let found = FILES.iter().find(|file| file.name == name);
    found.with_context(|| format!("tests/tests/{name}.rs is not in xtask/src/privileged/plan.rs"))
}

/// The tests to run: those whose name contains `filter`, which includes the name of their file.
pub fn tests<'a>(
    programs: &'a [Program],
    extent: Extent,
    filter: Option<&str>,
) -> Result<Vec<Test<'a>>> {
    let mut tests = Vec::new();
    for program in programs {
        let file = file(&program.name)?;
        for name in program.tests()? {
            let is_wanted =
                filter.is_none_or(|filter| format!("{}::{name}", program.name).contains(filter));
            let is_left_out = file.left_out.iter().any(|out| out.test == name);
            if is_wanted && !(is_left_out && extent == Extent::Quick) {
                tests.push(Test {
                    program,
                    name,
                    is_beside: file.alone.is_none(),
                });
            }
        }
    }
    tests.sort_by_key(|test| FILES.iter().position(|file| file.name == test.program.name));
    Ok(tests)
}
