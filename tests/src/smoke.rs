//! Tries every feature under any kernel, in a minute or two: `cargo xtask vm` runs it in guests, and on
//! this machine.
//!
//! Each feature is compared with `doctor`: what it promises must work, what it denies must not.

mod load;
mod stage;
mod trials;

use std::{
    io::{self, Write as _},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::observer;
use stage::Stage;
use trials::TRIALS;

/// The results under one kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The kernel's release, `uname -r`.
    pub release: String,
    /// Reasons of `doctor` why nothing can be observed; then the rest is empty.
    pub denied: Vec<String>,
    pub features: Vec<Feature>,
    pub programs: Vec<Program>,
    /// Runs that the kernel skipped under load, and the losses of that.
    pub under_load: String,
    /// Every mistake; empty on success.
    pub wrong: Vec<String>,
    pub seconds: u64,
}

/// A feature of the observer, tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Feature {
    pub name: String,
    /// What was seen, or the reason why not.
    pub seen: Result<String, String>,
    /// The loss without it, where `doctor` denies it.
    pub without: Option<String>,
}

/// A program, after the kernel's verifier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    /// Instructions that the verifier walked; unknown before Linux 5.16.
    pub walked: Option<u64>,
    pub load_us: u64,
}

/// Tries everything.
pub fn run() -> Result<Report> {
    let begun = Instant::now();
    // Both load all programs, which takes long where processors are slow.
    let asked = thread::spawn(Doctor::ask);
    let staged = Stage::start();
    progress(&format!(
        "Gunicorns and observer after {:?}",
        begun.elapsed()
    ));
    let doctor = asked
        .join()
        .map_err(|_| anyhow!("asking doctor panicked"))??;
    progress(&format!("doctor after {:?}", begun.elapsed()));
    let mut report = Report {
        release: release()?,
        denied: doctor.failed(),
        ..Report::default()
    };
    let mut stage = match (staged, report.denied.as_slice()) {
        (Ok(stage), []) => stage,
        // As doctor says.
        (Err(_), [_, ..]) => return Ok(report),
        (Ok(_), [_, ..]) => {
            report
                .wrong
                .push("doctor denies it, and it works".to_owned());
            return Ok(report);
        }
        (Err(error), []) => return Err(error),
    };
    report.programs = doctor.programs()?;
    for (name, feature, trial) in TRIALS {
        let seen = trial(&mut stage).map_err(|error| format!("{error:#}"));
        progress(&format!("{name}: {seen:?} after {:?}", begun.elapsed()));
        // Each of the others would wait without success, too.
        let is_hopeless = seen.is_err() && report.features.is_empty();
        let denied = doctor.denied(feature)?;
        match (&seen, &denied) {
            (Err(why), None) => report.wrong.push(format!("{name}: promised, but {why}")),
            (Ok(seen), Some(_)) => report.wrong.push(format!("{name}: denied, but {seen}")),
            _ => {}
        }
        report.features.push(Feature {
            name: (*name).to_owned(),
            seen,
            without: denied,
        });
        if is_hopeless {
            break;
        }
    }
    match load::under_load(&stage) {
        Ok(text) => report.under_load = text,
        Err(error) => report.wrong.push(format!("under load: {error:#}")),
    }
    progress(&format!("load after {:?}", begun.elapsed()));
    if !report.wrong.is_empty() {
        report
            .wrong
            .push(format!("the observer said:\n{}", stage.said()));
    }
    report.seconds = begun.elapsed().as_secs();
    Ok(report)
}

/// Prints progress.
fn progress(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn release() -> Result<String> {
    let name = nix::sys::utsname::uname()?;
    Ok(name.release().to_string_lossy().into_owned())
}

/// The report of `doctor` about this kernel.
struct Doctor(Value);

impl Doctor {
    fn ask() -> Result<Self> {
        let output = observer::output(["doctor", "--json", "--verbose"])?;
        let report = serde_json::from_slice(&output.stdout).with_context(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            format!("doctor printed no JSON: {stderr}")
        })?;
        Ok(Self(report))
    }

    /// Checks that failed.
    fn failed(&self) -> Vec<String> {
        let checks = self.0["checks"].as_array().into_iter().flatten();
        let failed = checks.filter(|check| check["ok"] == false);
        failed
            .map(|check| format!("doctor: {}: {}", check["name"], check["found"]))
            .collect()
    }

    /// The loss without a feature, if the kernel lacks it.
    fn denied(&self, name: &str) -> Result<Option<String>> {
        let features = self.0["features"].as_array();
        let mut features = features.context("doctor lists no features")?.iter();
        let feature = features.find(|feature| feature["name"] == name);
        let feature = feature.with_context(|| format!("doctor does not know of `{name}`"))?;
        let without = feature["without"].as_str().unwrap_or_default();
        Ok((feature["ok"] == false).then(|| without.to_owned()))
    }

    fn programs(&self) -> Result<Vec<Program>> {
        let programs = self.0["programs"].as_array();
        let programs = programs.context("doctor lists no programs")?.iter();
        let programs: Vec<_> = programs
            .map(|program| Program {
                name: program["name"].as_str().unwrap_or_default().to_owned(),
                walked: program["walked"].as_u64(),
                load_us: program["load_us"].as_u64().unwrap_or_default(),
            })
            .collect();
        ensure!(!programs.is_empty(), "doctor loaded no program");
        Ok(programs)
    }
}
