//! The observer under the limits of its systemd unit, as far as possible without systemd: its user,
//! its capabilities and no way to others, no homes, and a read-only tracefs. strace shows the rest.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{
    observer::{self, Observer},
    strace::{self, Call},
    unit::Unit,
    wait,
};

/// The first user id that systemd takes for `DynamicUser=` (`systemd.exec(5)`).
const USER: &str = "61184";

/// A program that becomes the observer.
pub struct Service {
    folder: TempDir,
}

impl Service {
    /// With the limits of the repository's unit.
    pub fn new() -> Result<Self> {
        let service = Self {
            folder: TempDir::new().context("cannot make a folder for the service")?,
        };
        // Neither in a home nor in a folder that only root can enter.
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(service.folder.path(), everybody.clone())?;
        fs::copy(observer::binary()?, service.program()).context("cannot copy the observer")?;
        fs::set_permissions(service.program(), everybody.clone())?;
        fs::write(service.launcher(), service.script(&Unit::read()?)?)?;
        fs::set_permissions(service.launcher(), everybody)?;
        Ok(service)
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("gunicorn-observer")
    }

    fn launcher(&self) -> PathBuf {
        self.folder.path().join("launcher")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("strace")
    }

    fn script(&self, unit: &Unit) -> Result<String> {
        for (name, value) in [("DynamicUser", "yes"), ("NoNewPrivileges", "yes")] {
            ensure!(unit.words(name).contains(value), "{name} is not {value}");
        }
        let bounding = unit.words("CapabilityBoundingSet");
        ensure!(
            bounding == unit.words("AmbientCapabilities"),
            "it has other capabilities than it may have"
        );
        let names = bounding.iter().filter_map(|name| name.strip_prefix("CAP_"));
        let capabilities: Vec<_> = names
            .map(|name| format!("+{}", name.to_lowercase()))
            .collect();
        ensure!(
            capabilities.len() == bounding.len(),
            "not all are capabilities"
        );
        let capabilities = format!("-all,{}", capabilities.join(","));
        let (log, program) = (shown(&self.log()), shown(&self.program()));
        Ok(format!(
            r#"#!/bin/sh
exec unshare --mount sh -ec '
    [ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing
    mount -o remount,bind,ro /sys/kernel/tracing
    mount -t tmpfs tmpfs /home
    mount -t tmpfs tmpfs /root
    exec strace -D -f -o "{log}" \
        setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs \
            --inh-caps={capabilities} --ambient-caps={capabilities} \
            --bounding-set={capabilities} --pdeathsig TERM \
        -- "{program}" "$@"
' sh "$@"
"#
        ))
    }

    /// Starts it, and waits until it is ready.
    pub fn start(&self, arguments: &[&str]) -> Result<Observer> {
        Observer::start_with(&self.launcher(), false, arguments)
    }

    /// Its system calls, once it has exited.
    pub fn calls(&self) -> Result<Vec<Call>> {
        let log = wait::until("the end of strace's log", || {
            let log = fs::read_to_string(self.log()).context("strace wrote no log")?;
            Ok(log.trim_end().ends_with("+++").then_some(log))
        })?;
        let calls = strace::calls_of(&log, &shown(&self.program()));
        ensure!(!calls.is_empty(), "no call in strace's log:\n{log}");
        Ok(calls)
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
