//! `gunicorn-observer trace`, running.

use std::{
    fs::{self, File},
    process::{Child, ChildStdout, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{
    observer::{STOP_BOUND, binary},
    process, wait,
};

/// A running trace of one master; stopped when dropped.
pub struct Tracer {
    child: Child,
    folder: TempDir,
}

impl Tracer {
    /// Starts it, writing to a file of its own, and waits until it observes.
    pub fn start(master: u32, arguments: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let out = File::create(folder.path().join("stdout"))?;
        Self::start_to(master, arguments, folder, out.into())
    }

    /// The same, writing to a pipe.
    pub fn start_piped(master: u32, arguments: &[&str]) -> Result<(Self, ChildStdout)> {
        let mut tracer = Self::start_to(master, arguments, TempDir::new()?, Stdio::piped())?;
        let out = tracer.child.stdout.take().context("it has no output")?;
        Ok((tracer, out))
    }

    fn start_to(master: u32, arguments: &[&str], folder: TempDir, out: Stdio) -> Result<Self> {
        let child = process::bound_to_us(binary()?)
            .args(["trace", "--pid", &master.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(File::create(folder.path().join("stderr"))?)
            .spawn()
            .context("cannot start the trace")?;
        let mut tracer = Self { child, folder };
        wait::until("the trace to begin", || {
            if let Some(status) = tracer.child.try_wait()? {
                bail!("it ended with {status}; it said:\n{}", tracer.stderr()?);
            }
            let is_ready = tracer.stderr()?.contains("observing; ");
            Ok(is_ready.then_some(()))
        })?;
        Ok(tracer)
    }

    /// Its log so far.
    pub fn stderr(&self) -> Result<String> {
        fs::read_to_string(self.folder.path().join("stderr")).context("cannot read its log")
    }

    /// The lines it wrote so far to its file.
    pub fn lines(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.folder.path().join("stdout"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Waits until there are this many lines, stops it, and returns all lines.
    pub fn finish(mut self, count: usize) -> Result<Vec<String>> {
        let waited = wait::until(format!("{count} lines"), || {
            Ok((self.lines()?.len() >= count).then_some(()))
        });
        waited.with_context(|| format!("there are {:#?}", self.lines()))?;
        self.stop(Signal::SIGINT)?;
        let lines = self.lines()?;
        ensure!(lines.len() == count, "not {count} lines: {lines:#?}");
        Ok(lines)
    }

    /// Stops it by a signal, and checks that it exits with success and in time.
    pub fn stop(&mut self, signal: Signal) -> Result<()> {
        process::signal(self.child.id(), signal)?;
        let status = process::wait_for(&mut self.child, STOP_BOUND)?;
        self.ended_well(status)
    }

    /// Waits until it exits by itself, and checks that it exits with success.
    pub fn ends(&mut self) -> Result<()> {
        let status = process::wait_for(&mut self.child, wait::BOUND)?;
        self.ended_well(status)
    }

    fn ended_well(&self, status: Option<ExitStatus>) -> Result<()> {
        let said = self.stderr()?;
        let status = status.with_context(|| format!("it does not end; it said:\n{said}"))?;
        ensure!(
            status.success() && !said.contains("panicked"),
            "it ended with {status}; it said:\n{said}"
        );
        Ok(())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        process::end(&mut self.child, STOP_BOUND);
    }
}
