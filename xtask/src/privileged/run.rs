//! Runs tests, several at a time where that is allowed.

use std::{
    num::NonZero,
    path::PathBuf,
    process::Stdio,
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use end_to_end::process;

use super::plan::{Place, Test};
use crate::tally::{Finished, Outcome, Tally};

/// One more than there are processors: most of a test's time is waiting.
fn side_by_side() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get) + 1
}

/// Printed by a test that is skipped, see `end_to_end::skip`.
const SKIPPED: &str = "SKIPPED: ";

/// Runs tests side by side, then those that need the host for themselves.
pub fn all(tests: Vec<Test<'_>>, environment: &[(&str, PathBuf)], tally: &mut Tally) -> Result<()> {
    let (alone, others): (Vec<_>, Vec<_>) = tests
        .into_iter()
        .partition(|test| matches!(test.place, Place::Alone(_)));
    for (tests, threads) in [(others, side_by_side()), (alone, 1)] {
        let queue = Queue::new(tests);
        thread::scope(|scope| {
            let (sender, finished) = mpsc::channel();
            for _ in 0..threads {
                let (sender, queue) = (sender.clone(), &queue);
                scope.spawn(move || {
                    while let Some(test) = queue.take() {
                        let outcome = one(&test, environment);
                        queue.finish(&test);
                        if sender.send(outcome).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            finished.iter().try_for_each(|outcome| {
                tally.add(outcome?);
                anyhow::Ok(())
            })
        })?;
    }
    Ok(())
}

/// The tests that have not started, and the files whose tests run.
struct Queue<'a> {
    state: Mutex<(Vec<Test<'a>>, Vec<&'a str>)>,
    finished: Condvar,
}

impl<'a> Queue<'a> {
    fn new(tests: Vec<Test<'a>>) -> Self {
        Self {
            state: Mutex::new((tests, Vec::new())),
            finished: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, (Vec<Test<'a>>, Vec<&'a str>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next test that may run now; waits for it if there is one later.
    fn take(&self) -> Option<Test<'a>> {
        let mut state = self.state();
        loop {
            let (waiting, running) = &mut *state;
            if waiting.is_empty() {
                return None;
            }
            let may_run = |test: &Test<'_>| {
                !matches!(test.place, Place::InTurn(_)) || !running.contains(&test.file())
            };
            if let Some(next) = waiting.iter().position(may_run) {
                let test = waiting.remove(next);
                running.push(test.program.name.as_str());
                return Some(test);
            }
            state = self
                .finished
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, test: &Test<'_>) {
        let (_, running) = &mut *self.state();
        if let Some(at) = running.iter().position(|file| *file == test.file()) {
            running.remove(at);
        }
        self.finished.notify_all();
    }
}

fn one(test: &Test<'_>, environment: &[(&str, PathBuf)]) -> Result<Outcome> {
    let start = Instant::now();
    // Exits with us, and what it started exits with it.
    let output = process::bound_to_us(&test.program.path)
        .args(["--exact", &test.name, "--test-threads=1"])
        .current_dir(&test.program.folder)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", test.program.path.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let skipped = stderr.lines().find_map(|line| line.strip_prefix(SKIPPED));
    let result = match (output.status.success(), skipped) {
        (false, _) => Finished::Failed(format!("{stdout}{stderr}{}", output.status)),
        (true, Some(reason)) => Finished::Skipped(reason.to_owned()),
        (true, None) => Finished::Passed,
    };
    Ok(Outcome {
        name: format!("{}::{}", test.file(), test.name),
        took: start.elapsed(),
        result,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::Program;

    #[test]
    fn tests_in_turn_wait_for_those_of_their_file_and_let_others_pass() {
        let program = |name: &str| Program {
            name: name.to_owned(),
            path: PathBuf::new(),
            folder: PathBuf::new(),
        };
        let (a, b) = (program("a"), program("b"));
        let test = |program, name: &str, place| Test {
            program,
            name: name.to_owned(),
            place,
        };
        let queue = Queue::new(vec![
            test(&a, "1", Place::InTurn("")),
            test(&a, "2", Place::InTurn("")),
            test(&b, "3", Place::Beside),
        ]);
        let name = |test: &Option<Test<'_>>| test.as_ref().map(|test| test.name.clone());
        let first = queue.take();
        assert_eq!(name(&first).as_deref(), Some("1"));
        assert_eq!(name(&queue.take()).as_deref(), Some("3"));
        queue.finish(&first.expect("there is one"));
        assert_eq!(name(&queue.take()).as_deref(), Some("2"));
        assert_eq!(name(&queue.take()), None);
    }
}
