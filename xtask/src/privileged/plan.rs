//! Which privileged tests run, and which of them side by side.

use anyhow::{Context as _, Result};

use crate::programs::Program;

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every test once, the longest of them shortened.
    Quick,
    Full,
}

impl Extent {
    /// As the tests read it, see `end_to_end::extent`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

/// What may run while a test runs, with the reason where it is little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Any other test that may.
    Beside,
    /// Tests of other files.
    InTurn(&'static str),
    /// Nothing.
    Alone(&'static str),
}

/// One test to run.
#[derive(Debug)]
pub struct Test<'a> {
    pub program: &'a Program,
    pub name: String,
    pub place: Place,
}

impl<'a> Test<'a> {
    /// The file in `tests/tests` that it is in.
    pub fn file(&self) -> &'a str {
        &self.program.name
    }
}

/// A file of `tests/tests`.
pub struct File {
    name: &'static str,
    place: Place,
    /// Tests with another place than the rest of the file.
    places: &'static [(&'static str, Place)],
    /// Tests that do less in the quick run.
    less: &'static [Less],
}

/// What the quick run does of a test.
struct Less {
    test: &'static str,
    /// Without it, nothing.
    runs: Option<&'static str>,
    reason: &'static str,
}

const fn does_less(test: &'static str, runs: &'static str, reason: &'static str) -> Less {
    Less {
        test,
        runs: Some(runs),
        reason,
    }
}

const fn file(name: &'static str, place: Place) -> File {
    File {
        name,
        place,
        places: &[],
        less: &[],
    }
}

const fn beside(name: &'static str) -> File {
    file(name, Place::Beside)
}

const fn alone(name: &'static str, reason: &'static str) -> File {
    file(name, Place::Alone(reason))
}

impl File {
    const fn but(self, places: &'static [(&'static str, Place)]) -> Self {
        Self { places, ..self }
    }

    const fn quickly(self, less: &'static [Less]) -> Self {
        Self { less, ..self }
    }

    fn place_of(&self, test: &str) -> Place {
        let own = self.places.iter().find(|(name, _)| *name == test);
        own.map_or(self.place, |(_, place)| *place)
    }
}

/// Other tests' Gunicorns would be among its own, and their losses, too.
const WHOLE_HOST: &str = "observes every Gunicorn of the host, and compares all of them";

const FOUR_PYTHONS: &str = "CPython 3.8, 3.11, 3.13 and 3.15, as far as the class runs on it";
const MORE_PYTHONS: &str = "the same with other versions";

/// Every file, in the order they run: long ones first.
pub const FILES: &[File] = &[
    file(
        "errors",
        Place::InTurn("5xx are labelled by application, and its tests use the same ones"),
    )
    .quickly(&[does_less(
        "thousands_of_good_requests_of_each_framework_make_no_error",
        "2,000 of 10,000 requests",
        "more of the same requests",
    )]),
    beside("timeouts"),
    beside("reasons"),
    beside("stack"),
    beside("awaits"),
    beside("kernels"),
    beside("dashboard"),
    beside("dashboard_use"),
    beside("lifecycle").but(&[
        (
            "a_master_killed_in_a_request_leaves_nothing_in_the_observer",
            Place::Alone("counts the entries of every map"),
        ),
        (
            "an_observer_started_first_finds_a_new_master",
            Place::Alone(WHOLE_HOST),
        ),
        (
            "a_new_master_under_a_known_interpreter_is_counted_from_its_first_request",
            Place::Alone(WHOLE_HOST),
        ),
    ]),
    beside("socket_level").but(&[("pypy", Place::Alone(WHOLE_HOST))]),
    beside("exact_counts"),
    beside("http_cases"),
    beside("http2"),
    beside("tasks").quickly(&[
        does_less("uvicorn_on_uvloop", FOUR_PYTHONS, MORE_PYTHONS),
        does_less("uvicorn_on_asyncio", FOUR_PYTHONS, MORE_PYTHONS),
        does_less("gunicorns_own_asgi", FOUR_PYTHONS, MORE_PYTHONS),
    ]),
    beside("endings"),
    beside("ways"),
    beside("no_response"),
    beside("dirty"),
    beside("fewer_probes"),
    beside("bystanders"),
    beside("app_metrics"),
    beside("bad_requests"),
    beside("capabilities"),
    beside("collections"),
    beside("phases"),
    beside("top"),
    beside("trace"),
    beside("unit").but(&[(
        "the_daemon_observes_with_what_its_unit_leaves_it",
        Place::Alone(WHOLE_HOST),
    )]),
    beside("usage"),
    beside("web"),
    beside("chart"),
    file(
        "dist",
        Place::InTurn("its tests make the packages in one folder"),
    ),
    beside("harness"),
    beside("replay"),
    beside("scale"),
    beside("loss"),
    beside("image").but(&[(
        "the_charts_pod_observes_a_gunicorn_outside_of_it_in_full",
        Place::Alone(WHOLE_HOST),
    )]),
    alone("starts", WHOLE_HOST),
    alone("master_exits", WHOLE_HOST),
    alone("garbage", WHOLE_HOST),
    alone("containers", WHOLE_HOST),
    alone("pods", WHOLE_HOST),
    alone("interpreters", WHOLE_HOST),
    alone("day", "loads both processors").quickly(&[does_less(
        "each_request_of_a_day_is_counted_or_lost",
        "8 masters for 20 seconds, of 20 for 60",
        "more of the same masters",
    )]),
    alone("mixed_masters", WHOLE_HOST).quickly(&[does_less(
        "masters_of_every_kind_come_and_go_and_no_request_is_missed",
        "30 of 120 seconds",
        "more of the same masters",
    )]),
    alone("hostile", "fills the host with impostors"),
    alone("commands", "counts what is loaded in the kernel"),
    alone("stability", "counts what is loaded in the kernel").quickly(&[
        does_less(
            "attaching_and_detaching_under_load_fails_no_request_and_leaves_nothing",
            "5 of 20 rounds",
            "more of the same rounds",
        ),
        does_less(
            "many_masters_come_and_go_and_no_map_keeps_them",
            "40 of 200 masters",
            "more of the same masters",
        ),
    ]),
    alone("matrix", "compares durations with access logs").quickly(&[does_less(
        "every_interpreter_every_gunicorn_and_every_class_is_observed_in_full",
        "each interpreter once, with each class and Gunicorn at least once",
        "`exact_counts` and `starts` run the classes, too",
    )]),
    alone("saturation", "compares durations with clients' clocks").but(&[
        ("a_server_that_cannot_keep_up_is_found", Place::Beside),
        ("what_a_worker_uses_is_what_the_kernel_says", Place::Beside),
    ]),
    alone("gil", "compares waits with threads' clocks"),
    alone("rules", "fires alerts within short windows").but(&[(
        "promtool_accepts_the_rules_and_finds_their_tests_passed",
        Place::Beside,
    )]),
    alone("prometheus", "needs the load of its clients in time"),
    alone("many_workers", "measures the observer's CPU"),
    alone("idle", "counts the observer's wake-ups"),
];

/// What the quick run does less than the full one, one test a line.
pub fn less() -> impl Iterator<Item = String> {
    FILES.iter().flat_map(|file| {
        file.less.iter().map(|Less { test, runs, reason }| {
            let runs = runs.unwrap_or("nothing");
            format!("{}::{test}: {runs}; left out: {reason}", file.name)
        })
    })
}

fn known(name: &str) -> Result<&'static File> {
    let found = FILES.iter().find(|file| file.name == name);
    found.with_context(|| format!("tests/tests/{name}.rs is not in xtask/src/privileged/plan.rs"))
}

/// The tests to run: those whose name contains `filter`, which may name their file.
pub fn tests<'a>(
    programs: &'a [Program],
    extent: Extent,
    filter: Option<&str>,
) -> Result<Vec<Test<'a>>> {
    let mut tests = Vec::new();
    for program in programs {
        let file = known(&program.name)?;
        for name in program.tests()? {
            let is_wanted =
                filter.is_none_or(|filter| format!("{}::{name}", program.name).contains(filter));
            let is_left_out = file
                .less
                .iter()
                .any(|less| less.test == name && less.runs.is_none());
            if is_wanted && !(is_left_out && extent == Extent::Quick) {
                tests.push(Test {
                    program,
                    place: file.place_of(&name),
                    name,
                });
            }
        }
    }
    tests.sort_by_key(|test| FILES.iter().position(|file| file.name == test.program.name));
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn read(path: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        fs::read_to_string(root.join(path)).expect("a file of the repository")
    }

    #[test]
    fn every_file_of_tests_is_planned_and_described() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests");
        let files: BTreeSet<_> = fs::read_dir(folder)
            .expect("tests/tests")
            .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
            .collect();
        let planned: BTreeSet<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(files, planned);
        let document = read("docs/TESTING.md");
        for file in files {
            assert!(document.contains(&format!("| `{file}.rs` | ")), "{file}");
        }
    }

    #[test]
    fn every_test_that_is_planned_by_name_exists() {
        for file in FILES {
            let source = read(&format!("tests/tests/{}.rs", file.name));
            let places = file.places.iter().map(|(test, _)| test);
            for test in places.chain(file.less.iter().map(|less| &less.test)) {
                assert!(
                    source.contains(&format!("fn {test}()")),
                    "{}::{test}",
                    file.name
                );
            }
        }
    }

    #[test]
    fn the_document_lists_what_the_quick_run_leaves_out() {
        let document = read("docs/TESTING.md");
        let mut rows = Vec::new();
        for file in FILES {
            for Less { test, runs, reason } in file.less {
                let runs = runs.unwrap_or("nothing");
                rows.push(format!("| `{}::{test}` | {runs} | {reason} |", file.name));
            }
        }
        let documented: Vec<_> = document
            .lines()
            .filter(|line| line.starts_with("| `") && line.contains("::"))
            .collect();
        assert_eq!(documented, rows);
    }

    #[test]
    fn a_test_has_its_own_place_before_that_of_its_file() {
        let file = beside("a").but(&[("b", Place::Alone("c"))]);
        assert_eq!(file.place_of("b"), Place::Alone("c"));
        assert_eq!(file.place_of("d"), Place::Beside);
    }
}
