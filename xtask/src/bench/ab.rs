//! Load by Apache's `ab`: a closed loop over a few connections, which takes the time of each request.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::cpu;
use crate::{
    command, packages,
    step::{Check, Step},
};

const PACKAGES: &[&str] = &["apache2-utils"];

pub const AB: Step = Step {
    name: "ab",
    why: "The benchmarks load servers with it.",
    check: |_| match command::output("ab", &["-V"]) {
        Some(version) => Check::Present(version.lines().next().unwrap_or_default().to_owned()),
        None => Check::missing("`ab` does not run", packages::fix(PACKAGES)),
    },
    make: Some(|_| packages::install(PACKAGES)),
};

/// What is asked, and by how many at once.
#[derive(Clone, Debug)]
pub struct Load {
    pub port: u16,
    /// Path, and query if it has one.
    pub path: String,
    pub connections: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answered {
    pub per_second: f64,
    pub median_ms: f64,
    pub p99_ms: f64,
}

impl Load {
    /// Sends so many requests, on connections that are kept as long as the server keeps them. All
    /// must be answered well.
    pub fn run(&self, requests: u32) -> Result<Answered> {
        let folder = tempfile::TempDir::new().context("cannot make a folder for ab")?;
        let percentiles = folder.path().join("percentiles.csv");
        let mut ab = match cpu::of_clients() {
            Some(cpu) => {
                let mut ab = Command::new("taskset");
                ab.args(["--cpu-list", &cpu.to_string(), "ab"]);
                ab
            }
            None => Command::new("ab"),
        };
        ab.args(["-q", "-k", "-l", "-n", &requests.to_string()])
            .args(["-c", &self.connections.to_string(), "-e"])
            .arg(&percentiles)
            .arg(format!("http://127.0.0.1:{}{}", self.port, self.path))
            .stdin(Stdio::null());
        let output = ab.output().context("cannot start ab")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let number = |name: &str| number(&said, name);
        let is_whole = output.status.success()
            && number("Complete requests:") == Some(f64::from(requests))
            && number("Failed requests:") == Some(0.0)
            && number("Non-2xx responses:").is_none();
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(is_whole, "not all was answered well:\n{said}{stderr}");
        Ok(Answered {
            per_second: number("Requests per second:").context("ab prints no rate")?,
            median_ms: percentile(&percentiles, 50)?,
            p99_ms: percentile(&percentiles, 99)?,
        })
    }
}

/// The number behind a name in what `ab` prints.
fn number(said: &str, name: &str) -> Option<f64> {
    let rest = said.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Of a file with a line `percent,milliseconds` for each percent.
fn percentile(file: &Path, percent: u32) -> Result<f64> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let of = |line: &str| {
        let (at, milliseconds) = line.split_once(',')?;
        (at == percent.to_string()).then(|| milliseconds.trim().parse().ok())?
    };
    let found = text.lines().find_map(of);
    found.with_context(|| format!("ab prints no percentile {percent}:\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_read_by_name() {
        let said = "Complete requests:      500\nRequests per second:    4105.97 [#/sec] (mean)\n";
        assert_eq!(number(said, "Complete requests:"), Some(500.0));
        assert_eq!(number(said, "Requests per second:"), Some(4105.97));
        assert_eq!(number(said, "Non-2xx responses:"), None);
    }
}
