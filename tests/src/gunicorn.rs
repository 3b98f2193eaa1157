//! A Gunicorn master and its workers, started for one test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{
    access_log::{self, Line},
    process,
    python::Python,
    wait,
};

const APPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/apps");

/// How to start one.
#[derive(Clone, Debug)]
pub struct Builder {
    python: Python,
    app: String,
    class: String,
    workers: usize,
    threads: usize,
    arguments: Vec<String>,
}

impl Builder {
    /// One sync worker of this application (`module:name` in `tests/apps`).
    #[must_use]
    pub fn new(python: impl Into<Python>, app: &str) -> Self {
        Self {
            python: python.into(),
            app: app.into(),
            class: "sync".into(),
            workers: 1,
            threads: 1,
            arguments: Vec::new(),
        }
    }

    /// It runs in a mount namespace and a root of its own, on overlayfs.
    #[must_use]
    pub fn in_container(self) -> Self {
        Self {
            python: self.python.in_root(Path::new("/")),
            ..self
        }
    }

    #[must_use]
    pub fn class(self, class: &str) -> Self {
        Self {
            class: class.into(),
            ..self
        }
    }

    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Workers end after this many requests.
    #[must_use]
    pub fn max_requests(self, requests: usize) -> Self {
        self.argument("--max-requests")
            .argument(&requests.to_string())
    }

    /// One more argument of Gunicorn.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts it, and waits until it listens and has booted its workers.
    pub fn start(&self) -> Result<GunicornServer> {
        let mut server = self.start_listening()?;
        server.wait_for_workers(self.workers)?;
        Ok(server)
    }

    /// Starts it, and waits only until it listens: what is sent now waits for a worker.
    pub fn start_listening(&self) -> Result<GunicornServer> {
        let folder = TempDir::new().context("cannot make a folder for Gunicorn's logs")?;
        let log = folder.path().join("error.log");
        let output =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let access_log = folder.path().join("access.log");
        let child = self
            .python
            .command(folder.path(), &[Path::new(env!("CARGO_MANIFEST_DIR"))])
            // Port 0: the kernel picks one that is free, and Gunicorn logs which.
            .args(["--bind", "127.0.0.1:0", "--worker-class", &self.class])
            .args(["--workers", &self.workers.to_string()])
            .args(["--threads", &self.threads.to_string()])
            .args([
                "--keep-alive",
                "15",
                "--graceful-timeout",
                "5",
                "--log-level",
                "info",
            ])
            .args(["--pythonpath", APPS])
            .arg("--access-logfile")
            .arg(&access_log)
            .args(["--access-logformat", access_log::FORMAT])
            .args(&self.arguments)
            .arg(&self.app)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start Gunicorn")?;
        let mut server = GunicornServer {
            child,
            class: self.class.clone(),
            port: 0,
            folder,
            log,
            access_log,
        };
        server.port = wait::until("Gunicorn to listen", || {
            server.fail_if_ended()?;
            Ok(port(&server.log()?))
        })?;
        Ok(server)
    }
}

/// A running Gunicorn; ended, with its workers, when dropped.
pub struct GunicornServer {
    child: Child,
    class: String,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    folder: TempDir,
    log: PathBuf,
    access_log: PathBuf,
}

impl GunicornServer {
    /// Pid of the master.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Name of its workers' Python class.
    #[must_use]
    pub fn worker_class(&self) -> &'static str {
        match self.class.as_str() {
            "sync" => "SyncWorker",
            "gthread" => "ThreadWorker",
            "gevent" => "GeventWorker",
            "gevent_pywsgi" => "GeventPyWSGIWorker",
            "eventlet" => "EventletWorker",
            other => unreachable!("no test has {other} workers"),
        }
    }

    /// Pids of the workers that are there now.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        process::children(self.pid())
    }

    /// Waits until there are exactly so many workers, and all have booted.
    pub fn wait_for_workers(&mut self, count: usize) -> Result<Vec<u32>> {
        wait::until(format!("{count} workers"), || {
            self.fail_if_ended()?;
            let log = self.log()?;
            let workers = self.workers();
            let booted = |pid: &u32| log.contains(&format!("Booting worker with pid: {pid}\n"));
            Ok((workers.len() == count && workers.iter().all(booted)).then_some(workers))
        })
    }

    /// Sends the master a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.pid(), signal)
    }

    /// Ends the master as the kernel does when memory is short; its workers are left.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill the master")?;
        self.child
            .wait()
            .context("the killed master does not end")?;
        Ok(())
    }

    /// Reloads, and waits until every worker is a new one.
    pub fn reload(&mut self) -> Result<Vec<u32>> {
        let old = self.workers();
        self.signal(Signal::SIGHUP)?;
        wait::until("the workers to be replaced", || {
            Ok((!self.workers().iter().any(|worker| old.contains(worker))).then_some(()))
        })?;
        self.wait_for_workers(old.len())
    }

    /// What it logged about itself, warts and all.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))
    }

    /// The requests it says it served.
    pub fn access_log(&self) -> Result<Vec<Line>> {
        if self.access_log.exists() {
            access_log::read(&self.access_log)
        } else {
            Ok(Vec::new())
        }
    }

    /// Waits until so many requests are logged.
    pub fn wait_for_access_log(&self, count: usize) -> Result<Vec<Line>> {
        wait::until(format!("{count} lines in the access log"), || {
            let lines = self.access_log()?;
            Ok((lines.len() >= count).then_some(lines))
        })
    }

    /// Its own folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn fail_if_ended(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("Gunicorn ended with {status}; it said:\n{}", self.log()?);
        }
        Ok(())
    }
}

impl Drop for GunicornServer {
    fn drop(&mut self) {
        process::end(&mut self.child, Duration::from_secs(10));
        // A master that was killed leaves its workers. They are known by their folder, so that a
        // pid used again is not ours to end.
        for worker in process::working_in(self.folder.path()) {
            let _ = process::signal(worker, Signal::SIGKILL);
        }
    }
}

/// The port in `Listening at: http://127.0.0.1:40123 (17)`.
fn port(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("Listening at: http://127.0.0.1:")?;
    rest.split_once(' ')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn the_port_is_read_once_its_line_is_whole() {
        assert_eq!(
            port("x\n[INFO] Listening at: http://127.0.0.1:40123 (17)\n"),
            Some(40123)
        );
        assert_eq!(port("Listening at: http://127.0.0.1:401"), None);
    }
}
