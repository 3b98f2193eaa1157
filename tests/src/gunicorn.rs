//! A Gunicorn master and its workers, started for one test.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{
    access_log::{self, Line},
    cgroup::MemoryGroup,
    client::{self, Request},
    container::Container,
    process,
    python::Python,
    response::Response,
    tls::Certificate,
    wait,
};

/// The folder of the applications.
pub(crate) const APPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/apps");
/// In the server's own folder.
const ERROR_LOG: &str = "error.log";
const PID_FILE: &str = "master.pid";
const SOCKET: &str = "gunicorn.sock";

/// Becomes the program in `$@`, after writing its pid to `$0`.
const JOIN: &str = r#"echo $$ > "$0" && exec "$@""#;

/// A master, and the Python class of its workers.
#[derive(Clone, Copy, Debug)]
pub struct Master<'a> {
    pub pid: u32,
    pub class: &'a str,
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Builder {
    python: Python,
    app: String,
    class: String,
    workers: usize,
    threads: usize,
    arguments: Vec<String>,
    /// See [`Builder::port`].
    port: Option<u16>,
    is_daemon: bool,
    is_configured: bool,
    is_logged: bool,
    environment: Vec<(String, String)>,
    container: Option<Container>,
    /// A file that gets its pid before it starts.
    group: Option<PathBuf>,
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
            port: None,
            is_daemon: false,
            is_configured: false,
            is_logged: true,
            environment: Vec::new(),
            container: None,
            group: None,
        }
    }

    /// It runs in a control group, with its children.
    #[must_use]
    pub fn within(self, group: &MemoryGroup) -> Self {
        Self {
            group: Some(group.processes()),
            ..self
        }
    }

    /// Sets `--timeout`: a worker without a heartbeat for this many seconds is aborted.
    #[must_use]
    pub fn timeout(self, seconds: u32) -> Self {
        self.argument("--timeout").argument(&seconds.to_string())
    }

    /// Sets `--graceful-timeout`: workers that stop may finish their requests for this many seconds.
    #[must_use]
    pub fn graceful_timeout(self, seconds: u32) -> Self {
        self.argument("--graceful-timeout")
            .argument(&seconds.to_string())
    }

    /// It also listens at a unix socket: [`GunicornServer::unix_socket`].
    #[must_use]
    pub fn unix(self) -> Self {
        self.argument("--bind").argument(&format!("unix:{SOCKET}"))
    }

    /// It listens at this port: a master without a socket does not log the one that the kernel picks.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self {
            port: Some(port),
            ..self
        }
    }

    /// It serves HTTPS itself.
    #[must_use]
    pub fn tls(self, certificate: &Certificate) -> Self {
        let [certificate, key] = certificate.files().map(|file| file.display().to_string());
        let with_key = self.argument("--keyfile").argument(&key);
        with_key.argument("--certfile").argument(&certificate)
    }

    /// It runs in a container.
    #[must_use]
    pub fn in_container(self, container: Container) -> Self {
        Self {
            container: Some(container),
            ..self
        }
    }

    /// It leaves us and runs in the background, as with `--daemon`.
    #[must_use]
    pub fn daemon(self) -> Self {
        let daemon = Self {
            is_daemon: true,
            ..self
        };
        let arguments = ["--daemon", "--pid", PID_FILE, "--error-logfile", ERROR_LOG];
        arguments.into_iter().fold(daemon, Self::argument)
    }

    /// This file sets its worker class, workers and threads, so that a reload can change them.
    #[must_use]
    pub fn configured(self, file: &Path) -> Self {
        let configured = Self {
            is_configured: true,
            ..self
        };
        let file = file.display().to_string();
        configured.argument("--config").argument(&file)
    }

    /// It writes no access log, which is Gunicorn's default.
    #[must_use]
    pub fn without_access_log(self) -> Self {
        Self {
            is_logged: false,
            ..self
        }
    }

    /// It runs on this program instead of its environment's `python`.
    #[must_use]
    pub fn interpreter(self, program: &Path) -> Self {
        Self {
            python: self.python.by(program),
            ..self
        }
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
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

    /// Sets `--max-requests`: workers exit after this many requests.
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

    /// Starts it, and waits only until it listens: requests then wait for a worker.
    pub fn start_listening(&self) -> Result<GunicornServer> {
        let folder = TempDir::new().context("cannot make a folder for Gunicorn's logs")?;
        let log = folder.path().join(ERROR_LOG);
        let output =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let access_log = folder.path().join("access.log");
        let child = self
            .command(folder.path(), self.arguments(&access_log))?
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start Gunicorn")?;
        let mut server = GunicornServer {
            master: child.id(),
            is_daemon: self.is_daemon,
            child,
            class: self.class.clone(),
            port: 0,
            folder,
            log,
            access_log,
        };
        if self.is_daemon {
            server.master = server.daemon_pid()?;
        }
        server.port = wait::until("Gunicorn to listen", || {
            server.fail_if_ended()?;
            let log = server.log()?;
            let own = self.port.filter(|_| listening_pid(&log).is_some());
            Ok(own.or_else(|| ports(&log).first().copied()))
        })?;
        if !self.is_daemon {
            let own = listening_pid(&server.log()?).context("it does not say its pid")?;
            server.master =
                process::known_as(own, server.child.id()).context("no master to be found")?;
        }
        Ok(server)
    }

    fn arguments(&self, access_log: &Path) -> Vec<String> {
        // Port 0: the kernel picks one that is free, and Gunicorn logs which.
        let bind = format!("127.0.0.1:{}", self.port.unwrap_or_default());
        let mut arguments = vec!["--bind".to_owned(), bind];
        if !self.is_configured {
            for (name, value) in [
                ("--worker-class", self.class.clone()),
                ("--workers", self.workers.to_string()),
                ("--threads", self.threads.to_string()),
            ] {
                arguments.extend([name.to_owned(), value]);
            }
        }
        for (name, value) in [
            ("--keep-alive", "15".into()),
            ("--graceful-timeout", "5".into()),
            ("--log-level", "info".into()),
            ("--pythonpath", APPS.into()),
        ] {
            arguments.extend([name.to_owned(), value]);
        }
        if self.is_logged {
            for (name, value) in [
                ("--access-logfile", access_log.display().to_string()),
                ("--access-logformat", access_log::FORMAT.into()),
            ] {
                arguments.extend([name.to_owned(), value]);
            }
        }
        arguments.extend_from_slice(&self.arguments);
        arguments.push(self.app.clone());
        arguments
    }
}

impl Builder {
    /// The command that becomes Gunicorn, or starts it.
    fn command(&self, shared: &Path, arguments: Vec<String>) -> Result<Command> {
        let launch = self.python.launch(arguments, &self.environment);
        // Another root is one of a container.
        let in_root = launch.root.is_some().then_some(Container::Overlay);
        match self.container.or(in_root) {
            Some(container) => container.command(shared, &launch),
            None => {
                let mut command = match &self.group {
                    None => process::bound_to_us(&launch.program),
                    Some(group) => {
                        let mut command = process::bound_to_us("sh");
                        command.args(["-c", JOIN]).arg(group).arg(&launch.program);
                        command
                    }
                };
                command.args(&launch.arguments).envs(launch.environment);
                Ok(command)
            }
        }
    }
}

/// A running Gunicorn; stopped with its workers when dropped.
pub struct GunicornServer {
    /// The master, its container, or the process that became a daemon.
    child: Child,
    master: u32,
    is_daemon: bool,
    class: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    folder: TempDir,
    log: PathBuf,
    access_log: PathBuf,
}

impl GunicornServer {
    /// Pid of the master.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.master
    }

    /// Its master and the class of its workers.
    #[must_use]
    pub fn as_master(&self) -> Master<'_> {
        Master {
            pid: self.pid(),
            class: self.worker_class(),
        }
    }

    /// Every port it listens at on 127.0.0.1, in the order of its binds.
    pub fn ports(&self) -> Result<Vec<u16>> {
        Ok(ports(&self.log()?))
    }

    /// Its unix socket, see [`Builder::unix`].
    #[must_use]
    pub fn unix_socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// Every worker that it ever started, by its log, in order.
    pub fn booted(&self) -> Result<Vec<u32>> {
        let log = self.log()?;
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        let pids = complete.lines().filter_map(|line| {
            let (_, pid) = line.split_once("Booting worker with pid: ")?;
            pid.parse().ok()
        });
        Ok(pids.collect())
    }

    /// Waits until it logged this, and returns its log.
    pub fn wait_for_log(&self, text: &str) -> Result<String> {
        let waited = wait::until(format!("`{text}` in Gunicorn's log"), || {
            Ok(Some(self.log()?).filter(|log| log.contains(text)))
        });
        waited.with_context(|| format!("it said:\n{}", self.log().unwrap_or_default()))
    }

    /// Waits until its master has exited by itself with this code.
    pub fn ends_with(&mut self, code: i32) -> Result<()> {
        let status = process::wait_for(&mut self.child, wait::BOUND)?;
        let log = self.log()?;
        ensure!(
            status.is_some_and(|status| status.code() == Some(code)),
            "the master ended with {status:?}, not {code}; it said:\n{log}"
        );
        Ok(())
    }

    /// Sends a request on a connection of its own, in its network namespace.
    pub fn fetch(&self, request: &Request) -> Result<Response> {
        process::in_network_of(self.pid(), || client::fetch(self.port, request))
    }

    /// Name of its workers' Python class.
    #[must_use]
    pub fn worker_class(&self) -> &str {
        match self.class.as_str() {
            "sync" => "SyncWorker",
            "gthread" => "ThreadWorker",
            "gevent" => "GeventWorker",
            "gevent_pywsgi" => "GeventPyWSGIWorker",
            "eventlet" => "EventletWorker",
            "tornado" => "TornadoWorker",
            "asgi" => "ASGIWorker",
            // A class by its path.
            path => path.rsplit_once('.').map_or_else(
                || unreachable!("no test has {path} workers"),
                |(_, class)| class,
            ),
        }
    }

    /// Pids of the running workers.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        process::children(self.pid())
    }

    /// Waits until there are exactly this many workers, and all have booted.
    pub fn wait_for_workers(&mut self, count: usize) -> Result<Vec<u32>> {
        wait::until(format!("{count} workers"), || {
            self.fail_if_ended()?;
            let log = self.log()?;
            let workers = self.workers();
            let booted = |pid: &u32| {
                let own = process::own_pid(*pid).unwrap_or_default();
                log.contains(&format!("Booting worker with pid: {own}\n"))
            };
            Ok((workers.len() == count && workers.iter().all(booted)).then_some(workers))
        })
    }

    /// Sends the master a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.pid(), signal)
    }

    /// Kills the master as the OOM killer does; its workers stay.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child
            .wait()
            .context("the killed master does not end")?;
        Ok(())
    }

    /// Stops it with a SIGTERM, and returns its final log. Late requests may be cut. A worker that does not
    /// exit, as those of eventlet under Python 3.15, is killed.
    pub fn end(&mut self) -> Result<Vec<Line>> {
        self.signal(Signal::SIGTERM)?;
        let status = process::wait_for(&mut self.child, wait::BOUND)?;
        if status.is_none() {
            bail!("Gunicorn does not end; it said:\n{}", self.log()?);
        }
        wait::until("the workers to end", || {
            let left = process::working_in(self.folder.path());
            for &worker in &left {
                process::signal(worker, Signal::SIGKILL)?;
            }
            Ok(left.is_empty().then_some(()))
        })?;
        self.access_log()
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

    /// Starts another master by SIGUSR2, with as many workers, waits until these have booted, and returns
    /// the new master's pid.
    pub fn upgrade(&self) -> Result<u32> {
        let old = self.workers();
        self.signal(Signal::SIGUSR2)?;
        wait::until("another master with its workers", || {
            let log = self.log()?;
            let booted = |pid: &u32| log.contains(&format!("Booting worker with pid: {pid}\n"));
            let mut new = self.workers().into_iter().filter(|pid| !old.contains(pid));
            Ok(new.find(|&pid| {
                let workers = process::children(pid);
                workers.len() == old.len() && workers.iter().all(booted)
            }))
        })
    }

    /// Stops the master, but not the new one beside it, which becomes this server.
    pub fn hand_over(&mut self, signal: Signal, new: u32) -> Result<()> {
        self.signal(signal)?;
        wait::until("the old master to end", || {
            let _ = self.child.try_wait()?;
            Ok((!process::is_alive(self.master)).then_some(()))
        })
        .with_context(|| format!("it said:\n{}", self.log().unwrap_or_default()))?;
        self.master = new;
        // Like one, it is no child of ours.
        self.is_daemon = true;
        Ok(())
    }

    /// Its error log.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))
    }

    /// Its access log, with the host's pids of running workers.
    pub fn access_log(&self) -> Result<Vec<Line>> {
        if !self.access_log.exists() {
            return Ok(Vec::new());
        }
        let workers = self.workers().into_iter();
        let pids: HashMap<u32, u32> = workers
            .filter_map(|pid| Some((process::own_pid(pid)?, pid)))
            .collect();
        let mut lines = access_log::read(&self.access_log)?;
        for line in &mut lines {
            line.pid = *pids.get(&line.pid).unwrap_or(&line.pid);
        }
        Ok(lines)
    }

    /// Waits until this many requests are logged.
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

    /// Waits until the started process has left a daemon behind.
    fn daemon_pid(&mut self) -> Result<u32> {
        let status = process::wait_for(&mut self.child, wait::BOUND)?;
        if !status.is_some_and(|status| status.success()) {
            bail!(
                "no daemon was started: {status:?}; it said:\n{}",
                self.log()?
            );
        }
        let file = self.folder.path().join(PID_FILE);
        wait::until("the pid file of the daemon", || {
            let text = fs::read_to_string(&file).unwrap_or_default();
            Ok(text.strip_suffix('\n').and_then(|pid| pid.parse().ok()))
        })
    }

    fn fail_if_ended(&mut self) -> Result<()> {
        if self.is_daemon {
            if !process::is_alive(self.master) {
                bail!("the daemon ended; it said:\n{}", self.log()?);
            }
            return Ok(());
        }
        if let Some(status) = self.child.try_wait()? {
            bail!("Gunicorn ended with {status}; it said:\n{}", self.log()?);
        }
        Ok(())
    }
}

impl Drop for GunicornServer {
    fn drop(&mut self) {
        // Unless it never became one: that pid has ended and may be another's.
        if self.is_daemon && self.master != self.child.id() {
            let _ = process::signal(self.master, Signal::SIGTERM);
            let _ = wait::until("the daemon to end", || {
                Ok((!process::is_alive(self.master)).then_some(()))
            });
        // Only an ended child is not ours to signal: its pid may be another's by now.
        } else if self.pid() != self.child.id() && matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.signal(Signal::SIGTERM);
            let _ = process::wait_for(&mut self.child, Duration::from_secs(10));
        }
        process::end(&mut self.child, Duration::from_secs(10));
        // A master that was killed leaves its workers. They are known by their folder, so that a
        // pid used again is not ours to end.
        for worker in process::working_in(self.folder.path()) {
            let _ = process::signal(worker, Signal::SIGKILL);
        }
    }
}

/// The ports in `Listening at: http://127.0.0.1:40123,unix:/run/socket (17)`.
fn ports(log: &str) -> Vec<u16> {
    let Some((_, rest)) = log.split_once("Listening at: ") else {
        return Vec::new();
    };
    let Some((addresses, _)) = rest.split_once(' ') else {
        return Vec::new();
    };
    let port = |address: &str| {
        let (_, address) = address.split_once("://")?;
        address.strip_prefix("127.0.0.1:")?.parse().ok()
    };
    addresses.split(',').filter_map(port).collect()
}

/// The pid in the same line: that of the master, in its own pid namespace.
fn listening_pid(log: &str) -> Option<u32> {
    let (_, rest) = log.split_once("Listening at: ")?;
    let (_, rest) = rest.split_once(" (")?;
    rest.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{listening_pid, ports};

    #[test]
    fn the_master_is_known_by_the_same_line() {
        let line = "x\n[INFO] Listening at: http://127.0.0.1:40123 (17)\n";
        assert_eq!(listening_pid(line), Some(17));
        assert_eq!(listening_pid("Listening at: http://127.0.0.1:1 (1"), None);
    }

    #[test]
    fn ports_are_read_once_their_line_is_whole() {
        assert_eq!(
            ports("x\n[INFO] Listening at: http://127.0.0.1:40123 (17)\n"),
            [40123]
        );
        assert_eq!(
            ports("Listening at: https://127.0.0.1:1,unix:/s,http://127.0.0.1:2 (17)"),
            [1, 2]
        );
        assert!(ports("Listening at: http://127.0.0.1:401").is_empty());
    }
}
