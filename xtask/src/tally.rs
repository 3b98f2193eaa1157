//! Counts what passed and failed, and how long it took.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Of the slowest tests, this many are printed.
const SLOWEST: usize = 10;

/// A finished test.
pub struct Outcome {
    pub name: String,
    pub took: Duration,
    pub result: Finished,
}

pub enum Finished {
    Passed,
    /// With the output or the error.
    Failed(String),
    /// With the reason.
    Skipped(String),
}

#[derive(Default)]
pub struct Tally {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
    times: Vec<(String, Duration)>,
    setup: Duration,
    build: Duration,
    tests: Duration,
}

impl Tally {
    /// Runs a stage of set-up. It must succeed for anything to be tested.
    pub fn setup<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        timed(&mut self.setup, work)
    }

    /// Runs checks that compile: most of their time is that of a build.
    pub fn lint(&mut self, work: impl FnOnce(&mut Self)) {
        println!("== lint");
        let start = Instant::now();
        work(self);
        self.build += start.elapsed();
    }

    /// Builds programs. They must be there for anything to be tested.
    pub fn build<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("== build");
        timed(&mut self.build, work)
    }

    /// Runs tests, which are added one by one; their time on the clock is counted here.
    pub fn tests<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        println!("== {name}");
        let start = Instant::now();
        let done = work(self);
        self.tests += start.elapsed();
        done
    }

    /// Runs one check, and counts it as one test.
    pub fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        let mut took = Duration::ZERO;
        let result = match timed(&mut took, work) {
            Ok(()) => Finished::Passed,
            Err(error) => Finished::Failed(format!("{error:#}")),
        };
        self.add(Outcome {
            name: name.to_owned(),
            took,
            result,
        });
    }

    /// Counts an error as one failed test; returns whether there was none.
    pub fn fail_on_error(&mut self, name: &str, done: Result<()>) -> bool {
        let Err(error) = done else {
            return true;
        };
        self.add(Outcome {
            name: name.to_owned(),
            took: Duration::ZERO,
            result: Finished::Failed(format!("{error:#}")),
        });
        false
    }

    /// Counts a test, and prints it.
    pub fn add(&mut self, outcome: Outcome) {
        let Outcome { name, took, result } = outcome;
        let seconds = took.as_secs_f64();
        match result {
            Finished::Passed => {
                println!("ok {seconds:8.1} s  {name}");
                self.passed += 1;
            }
            Finished::Failed(output) => {
                println!("FAILED {seconds:4.1} s  {name}\n{output}");
                self.failed.push(name.clone());
            }
            Finished::Skipped(reason) => {
                println!("skipped     {name}: {reason}");
                self.skipped.push(name.clone());
            }
        }
        self.times.push((name, took));
    }

    /// Counts a test that is one of many, and prints it only if it failed.
    pub fn add_quietly(&mut self, outcome: Outcome) {
        match outcome.result {
            Finished::Passed => {
                self.passed += 1;
                self.times.push((outcome.name, outcome.took));
            }
            _ => self.add(outcome),
        }
    }

    /// Prints the slowest tests, what failed, the times and the summary; fails if a test failed.
    pub fn finish(mut self) -> Result<()> {
        println!("== summary");
        self.times.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        for (name, took) in self.times.iter().take(SLOWEST) {
            println!("{:10.1} s  {name}", took.as_secs_f64());
        }
        for name in &self.failed {
            println!("FAILED: {name}");
        }
        println!(
            "set-up {} s, build and lint {} s, tests {} s",
            self.setup.as_secs(),
            self.build.as_secs(),
            self.tests.as_secs()
        );
        println!("{}", self.summary());
        if !self.failed.is_empty() {
            bail!("{} failed", self.failed.len());
        }
        Ok(())
    }

    /// Read by programs: alone on its line.
    fn summary(&self) -> String {
        let mut line = format!("{} passed, {} failed", self.passed, self.failed.len());
        if !self.skipped.is_empty() {
            line.push_str(&format!(", {} skipped", self.skipped.len()));
        }
        line
    }
}

fn timed<T>(total: &mut Duration, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = work();
    *total += start.elapsed();
    done
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn the_summary_counts_what_passed_failed_and_was_skipped() {
        let mut tally = Tally::default();
        tally.check("a", || Ok(()));
        tally.check("b", || Ok(()));
        assert_eq!(tally.summary(), "2 passed, 0 failed");
        tally.check("c", || Err(anyhow!("wrong")));
        tally.add(Outcome {
            name: "d".to_owned(),
            took: Duration::ZERO,
            result: Finished::Skipped("not here".to_owned()),
        });
        assert_eq!(tally.summary(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(tally.failed, ["c"]);
        assert!(tally.finish().is_err());
    }
}
