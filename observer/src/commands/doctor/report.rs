//! What `doctor` found: docs/DOCTOR.md has each field.

use super::kernel::Kernel;
use super::probes::{self, Probe, Unseen};
use crate::cpython::target::InterpreterPath;
use crate::gunicorn::tree::{FoundMaster, Scan};
use crate::probe::preflight::Check;
use crate::process::maps::FileNumber;
use observer_model::event::Pid;
use observer_model::fact::Level;
use serde::Serialize;

const ORDINARY_PYTHON: &str = "run it on an ordinary CPython 3.8 to 3.15 for glibc";
const ORDINARY_CLASS: &str =
    "none, but workers that serve by Gunicorn's own `handle_request` are observed in full";
const TESTED_GUNICORN: &str = "use Gunicorn 19.10 to 27";
const AS_ROOT: &str = "run this as root (sudo) on the host";

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether `run` could work.
    pub works: bool,
    pub checks: Vec<Check>,
    /// What the kernel lets us have, where the programs could be loaded.
    #[serde(flatten)]
    pub kernel: Option<Kernel>,
    /// Absent when processes could not be looked into.
    #[serde(flatten)]
    pub targets: Option<Targets>,
}

/// What runs on this host.
#[derive(Debug, Serialize)]
pub struct Targets {
    pub interpreters: Vec<InterpreterFile>,
    pub masters: Vec<Master>,
    /// Look like Gunicorn, but cannot be looked at.
    pub refused: Vec<Refused>,
}

/// A file that holds the interpreter of one master or several.
#[derive(Debug, Serialize)]
pub struct InterpreterFile {
    /// As its processes see it; empty when not known.
    pub file: String,
    #[serde(skip)]
    id: Option<FileNumber>,
    pub python_version: String,
    /// What it lets masters have at best.
    pub level: &'static str,
    /// Why no better; else empty.
    pub reason: String,
    pub cure: &'static str,
    pub masters: Vec<Pid>,
    pub probes: Vec<Probe>,
    pub unseen: Vec<Unseen>,
}

#[derive(Debug, Serialize)]
pub struct Master {
    pub pid: Pid,
    pub app: String,
    pub worker_class: String,
    pub gunicorn_version: String,
    /// Whether this version was tried; absent when the version is not known.
    pub gunicorn_supported: Option<bool>,
    pub python_version: String,
    pub level: &'static str,
    /// Why it is no better, or what is missing or costs more than it should; else empty.
    pub reason: String,
    /// Empty when nothing is to be done, or it is the interpreter's.
    pub cure: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Refused {
    pub pid: Pid,
    pub reason: String,
    pub cure: &'static str,
}

impl Report {
    #[must_use]
    pub fn new(checks: Vec<Check>, kernel: Option<Kernel>, targets: Option<Targets>) -> Self {
        Self {
            works: checks.iter().all(|check| check.ok),
            checks,
            kernel,
            targets,
        }
    }
}

impl Targets {
    /// Of a look at all processes, with the file of a process's interpreter.
    #[must_use]
    pub fn of(scan: &Scan, mut path: impl FnMut(Pid) -> Option<InterpreterPath>) -> Self {
        let mut interpreters: Vec<InterpreterFile> = Vec::new();
        for found in &scan.masters {
            let pid = found.master.pid;
            let path = path(pid);
            let id = path.as_ref().map(|path| path.probed);
            // What is not known is nobody else's.
            let known = interpreters
                .iter_mut()
                .find(|it| id.is_some() && it.id == id);
            match known {
                Some(file) => file.masters.push(pid),
                None => interpreters.push(InterpreterFile::of(found, path)),
            }
        }
        let refused = scan.refused.iter().map(|(pid, reason)| Refused {
            pid: *pid,
            reason: reason.clone(),
            cure: AS_ROOT,
        });
        Self {
            interpreters,
            masters: scan.masters.iter().map(Master::of).collect(),
            refused: refused.collect(),
        }
    }
}

impl InterpreterFile {
    fn of(found: &FoundMaster, path: Option<InterpreterPath>) -> Self {
        let (probes, unseen) = found
            .interpreter
            .as_ref()
            .map_or_else(|_| Default::default(), probes::of);
        // A master may be observed less well than its interpreter allows, never better.
        let level = match &found.interpreter {
            Ok(_) => Level::Full,
            Err(_) => found.coverage.level(),
        };
        let reason = found.interpreter.as_ref().err().cloned();
        Self {
            id: path.as_ref().map(|path| path.probed),
            file: path.map_or_else(String::new, |it| it.path.display().to_string()),
            python_version: found.master.python_version.clone(),
            level: level.as_str(),
            cure: reason.as_ref().map_or("", |_| ORDINARY_PYTHON),
            reason: reason.unwrap_or_default(),
            masters: vec![found.master.pid],
            probes,
            unseen,
        }
    }
}

impl Master {
    fn of(found: &FoundMaster) -> Self {
        let master = &found.master;
        let level = found.coverage.level();
        let supported = is_supported(&master.gunicorn_version);
        let cure = match (level, &found.interpreter) {
            _ if supported == Some(false) => TESTED_GUNICORN,
            (Level::Socket | Level::None, Ok(_)) => ORDINARY_CLASS,
            _ => "",
        };
        Self {
            pid: master.pid,
            app: master.app.clone(),
            worker_class: master.worker_class.clone(),
            gunicorn_version: master.gunicorn_version.clone(),
            gunicorn_supported: supported,
            python_version: master.python_version.clone(),
            level: level.as_str(),
            reason: found.coverage.reason(),
            cure,
        }
    }
}

/// Whether a version of Gunicorn is among those of docs/MATRIX.md, 19.10 to 27; `None` when it is
/// not known.
fn is_supported(version: &str) -> Option<bool> {
    let mut parts = version.split('.');
    let major: u32 = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|minor| minor.parse::<u32>().ok());
    Some((19, 10) <= (major, minor.unwrap_or(0)) && major <= 27)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
