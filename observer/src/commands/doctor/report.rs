//! The report of `doctor`. docs/DOCTOR.md has each field.

use super::kernel::Kernel;
use super::probes::{self, Probe, Unseen};
use crate::cpython::target::InterpreterPath;
use crate::cpython::version as python;
use crate::gunicorn::thread_dump::PROTECTED;
use crate::gunicorn::tree::{FoundMaster, Scan};
use crate::gunicorn::version as gunicorn;
use crate::probe::preflight::Check;
use crate::process::maps::FileNumber;
use observer_model::Untrusted;
use observer_model::event::Pid;
use observer_model::fact::Level;
use serde::Serialize;

const ORDINARY_CLASS: &str =
    "use a worker class that serves requests with Gunicorn's own `handle_request`";

/// What `doctor` reports.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether `run` could work.
    pub works: bool,
    pub checks: Vec<Check>,
    /// Absent if the programs could not be loaded.
    #[serde(flatten)]
    pub kernel: Option<Kernel>,
    /// Absent if processes could not be read.
    #[serde(flatten)]
    pub targets: Option<Targets>,
}

/// Interpreters and masters of this host.
#[derive(Debug, Serialize)]
pub struct Targets {
    pub interpreters: Vec<InterpreterFile>,
    pub masters: Vec<Master>,
    /// Look like Gunicorn, but cannot be read.
    pub refused: Vec<Refused>,
}

/// A file that holds the interpreter of one master or several.
#[derive(Debug, Serialize)]
pub struct InterpreterFile {
    /// As its processes see it; empty if unknown.
    pub file: Untrusted,
    #[serde(skip)]
    id: Option<FileNumber>,
    pub python_version: Untrusted,
    /// The best level that it allows.
    pub level: &'static str,
    /// Why the level is not `full`; else empty.
    pub reason: Untrusted,
    pub fix: String,
    pub masters: Vec<Pid>,
    pub probes: Vec<Probe>,
    pub unseen: Vec<Unseen>,
}

#[derive(Debug, Serialize)]
pub struct Master {
    pub pid: Pid,
    pub app: Untrusted,
    pub worker_class: Untrusted,
    pub gunicorn_version: Untrusted,
    /// Absent if the version is unknown.
    pub gunicorn_supported: Option<bool>,
    pub python_version: Untrusted,
    pub level: &'static str,
    /// Why the level is not `full`, or what is missing or costs more than it should; else empty.
    pub reason: Untrusted,
    /// Empty if none is needed, or if the interpreter has it.
    pub fix: String,
}

#[derive(Debug, Serialize)]
pub struct Refused {
    pub pid: Pid,
    pub reason: Untrusted,
    pub fix: &'static str,
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
    /// The targets in a scan; `path` finds the file of a process's interpreter.
    #[must_use]
    pub fn of(scan: &Scan, mut path: impl FnMut(Pid) -> Option<InterpreterPath>) -> Self {
        let mut interpreters: Vec<InterpreterFile> = Vec::new();
        for found in &scan.masters {
            let pid = found.master.pid;
            let path = path(pid);
            let id = path.as_ref().map(|path| path.probed);
            // Unknown files are never the same.
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
            fix: PROTECTED,
        });
        let is_refused = |pid| scan.refused.iter().any(|(refused, _)| *refused == pid);
        let unobserved = scan.unobserved.iter();
        let unobserved = unobserved.filter(|found| !is_refused(found.master.pid));
        let masters = scan.masters.iter().chain(unobserved);
        Self {
            interpreters,
            masters: masters.map(Master::of).collect(),
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
        // A master may have a lower level than its interpreter allows, never a higher one.
        let level = match &found.interpreter {
            Ok(_) => Level::Full,
            Err(_) => found.coverage.level(),
        };
        let reason = found.interpreter.as_ref().err().cloned();
        Self {
            id: path.as_ref().map(|path| path.probed),
            file: path.map_or_else(Untrusted::default, |it| {
                it.path.display().to_string().into()
            }),
            python_version: found.master.python_version.as_str().into(),
            level: level.as_str(),
            fix: reason.as_ref().map_or_else(String::new, |_| use_python()),
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
        let supported = gunicorn::is_supported(&master.gunicorn_version);
        let fix = match (level, &found.interpreter) {
            _ if supported == Some(false) => use_gunicorn(),
            (Level::Socket | Level::None, Ok(_)) => ORDINARY_CLASS.to_owned(),
            _ => String::new(),
        };
        Self {
            pid: master.pid,
            app: master.app.as_str().into(),
            worker_class: master.worker_class.as_str().into(),
            gunicorn_version: master.gunicorn_version.as_str().into(),
            gunicorn_supported: supported,
            python_version: master.python_version.as_str().into(),
            level: level.as_str(),
            reason: found.coverage.reason(),
            fix,
        }
    }
}

fn use_python() -> String {
    format!("run it on {}", python::supported())
}

fn use_gunicorn() -> String {
    format!("use {}", gunicorn::supported())
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
