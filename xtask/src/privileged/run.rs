//! Runs tests, as many at a time as is asked for.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Mutex, mpsc},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use end_to_end::process;

use super::plan::Test;
use crate::tally::{Finished, Outcome, Tally};

/// More than there are processors: most of a test's time is waiting.
pub const SIDE_BY_SIDE: usize = 3;

/// Printed by a test that is skipped, see `end_to_end::skip`.
const SKIPPED: &str = "SKIPPED: ";

pub fn all(
    tests: &[Test],
    at_a_time: usize,
    environment: &[(&str, PathBuf)],
    tally: &mut Tally,
) -> Result<()> {
    let next = Mutex::new(tests.iter());
    thread::scope(|scope| {
        let (sender, finished) = mpsc::channel();
        for _ in 0..at_a_time {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(test) = next.lock().ok().and_then(|mut tests| tests.next()) {
                    if sender.send(one(test, environment)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for outcome in finished {
            tally.add(outcome?);
        }
        Ok(())
    })
}

fn one(test: &Test, environment: &[(&str, PathBuf)]) -> Result<Outcome> {
    let start = Instant::now();
    // Ends with us; what it started ends with it.
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
        name: format!("{}::{}", test.program.name, test.name),
        took: start.elapsed(),
        result,
    })
}
