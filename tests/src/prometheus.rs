//! A real Prometheus that scrapes the observer.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use tempfile::TempDir;

use crate::{
    client::{self, Request},
    observer::free_port,
    process, wait,
};

/// The job of the scrapes: the shipped alerts name it.
const JOB: &str = "gunicorn-observer";

/// A running Prometheus; stopped when dropped.
pub struct Prometheus {
    child: Child,
    folder: TempDir,
    /// Its port on 127.0.0.1.
    port: u16,
}

/// A series of an answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Series {
    metric: BTreeMap<String, String>,
    /// The time, and the value as text.
    value: (f64, String),
}

impl Series {
    /// A label's value, empty if it has none.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", String::as_str)
    }

    /// Its value; `None` if it is not a number, as 0 / 0.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        let number: f64 = self.value.1.parse().ok()?;
        (!number.is_nan()).then_some(number)
    }
}

/// A target, and its last scrape.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    pub health: String,
    pub last_error: String,
}

#[derive(Debug, Deserialize)]
struct Targets {
    #[serde(rename = "activeTargets")]
    active: Vec<Target>,
}

/// A rule, and its last evaluation.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub name: String,
    pub health: String,
    #[serde(default)]
    pub last_error: String,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

/// An alert that is pending or firing.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub state: String,
}

impl Alert {
    /// The name of its rule.
    #[must_use]
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }
}

#[derive(Debug, Deserialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
struct Vector {
    result: Vec<Series>,
}

#[derive(Debug, Deserialize)]
struct Answer<T> {
    data: Option<T>,
    error: Option<String>,
}

impl Prometheus {
    /// Starts one that scrapes this port once a second, and waits for the first scrape.
    pub fn start(observer: u16) -> Result<Self> {
        Self::start_with(observer, "", &[])
    }

    /// The same with these lines of a scrape configuration, evaluating these rules once a second.
    pub fn start_with(observer: u16, how: &str, rules: &[String]) -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder for Prometheus")?;
        let port = free_port()?;
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, configuration(observer, how))
            .with_context(|| format!("cannot write {}", file.display()))?;
        for (number, text) in rules.iter().enumerate() {
            let file = folder.path().join(format!("{number}.rules.yml"));
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        let output = File::create(folder.path().join("output"))?;
        let child = process::bound_to_us(program("prometheus")?)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // What it thinks of a scrape it says only there.
            .arg("--log.level=debug")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start Prometheus")?;
        let mut prometheus = Self {
            child,
            folder,
            port,
        };
        wait::until("Prometheus to have scraped the observer", || {
            if let Some(status) = prometheus.child.try_wait()? {
                bail!("Prometheus ended with {status}");
            }
            let up = prometheus.query(&format!("up{{job=\"{JOB}\"}}"));
            Ok(up.is_ok_and(|up| !up.is_empty()).then_some(()))
        })
        .with_context(|| format!("it said:\n{}", prometheus.log().unwrap_or_default()))?;
        Ok(prometheus)
    }

    /// The answer to an instant query.
    pub fn query(&self, query: &str) -> Result<Vec<Series>> {
        let vector: Vector = self
            .ask(&format!("query?query={}", encoded(query)))
            .with_context(|| format!("asked {query}"))?;
        Ok(vector.result)
    }

    /// Its targets.
    pub fn targets(&self) -> Result<Vec<Target>> {
        let targets: Targets = self.ask("targets?state=active")?;
        Ok(targets.active)
    }

    /// Its rules.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let groups: Groups = self.ask("rules")?;
        Ok(groups
            .groups
            .into_iter()
            .flat_map(|group| group.rules)
            .collect())
    }

    /// The firing alerts.
    pub fn firing(&self) -> Result<Vec<Alert>> {
        let alerts: Alerts = self.ask("alerts")?;
        let mut alerts = alerts.alerts;
        alerts.retain(|alert| alert.state == "firing");
        Ok(alerts)
    }

    /// Its own metrics.
    pub fn metrics(&self) -> Result<String> {
        let response = client::fetch(self.port, &Request::get("/metrics"))?;
        String::from_utf8(response.body).context("Prometheus' metrics are not UTF-8")
    }

    /// Its log so far.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(self.folder.path().join("output"))
            .context("cannot read the log of Prometheus")
    }

    fn ask<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        let request = Request::get(&format!("/api/v1/{what}"));
        let response = client::fetch(self.port, &request)?;
        let answer: Answer<T> = serde_json::from_slice(&response.body).with_context(|| {
            let body = String::from_utf8_lossy(&response.body);
            format!("Prometheus answered {}: {body}", response.status)
        })?;
        answer
            .data
            .with_context(|| answer.error.unwrap_or_default())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        process::end(&mut self.child, Duration::from_secs(5));
    }
}

/// The complaints of `promtool check metrics` about an exposition; empty if there are none.
pub fn objections(exposition: &str) -> Result<Vec<String>> {
    let mut child = Command::new(program("promtool")?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start promtool")?;
    // It reads all of it before it says anything.
    let mut input = child.stdin.take().context("promtool has no input")?;
    input.write_all(exposition.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said + String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = said.lines().map(str::to_owned).collect();
    ensure!(
        output.status.success() == lines.is_empty(),
        "promtool ended with {} and said {lines:?}",
        output.status
    );
    Ok(lines)
}

/// Whether `promtool` is installed.
pub fn promtool_is_there() -> Result<()> {
    program("promtool").map(|_| ())
}

/// Runs `promtool` to its end, in a folder.
pub fn promtool(folder: &Path, arguments: &[&str]) -> Result<Output> {
    Command::new(program("promtool")?)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("cannot start promtool")
}

/// One of Prometheus' programs, in the folder that `cargo xtask test` names in the environment.
fn program(name: &str) -> Result<PathBuf> {
    let folder = env::var_os("GUNICORN_OBSERVER_PROMETHEUS").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../target/prometheus/usr/bin"
            ))
        },
        PathBuf::from,
    );
    let path = folder.join(name);
    ensure!(
        path.exists(),
        "{} does not exist: run `cargo xtask setup`",
        path.display()
    );
    Ok(path)
}

fn configuration(observer: u16, how: &str) -> String {
    let how: String = how.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "global:\n\
         \x20 scrape_interval: 1s\n\
         \x20 scrape_timeout: 1s\n\
         \x20 evaluation_interval: 1s\n\
         rule_files: ['*.rules.yml']\n\
         scrape_configs:\n\
         \x20 - job_name: {JOB}\n\
         \x20   static_configs:\n\
         \x20     - targets: ['127.0.0.1:{observer}']\n\
         {how}"
    )
}

/// A query as a part of a URL.
fn encoded(query: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    query.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn a_query_keeps_no_character_that_means_something_in_a_url() {
        assert_eq!(
            encoded("rate(a_b{c=\"5..\"}[5m])"),
            "rate%28a_b%7Bc%3D%225%2E%2E%22%7D%5B5m%5D%29"
        );
    }
}
