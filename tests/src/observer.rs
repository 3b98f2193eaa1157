//! The program under test.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{
    backend::{self, Backend},
    cgroup,
    client::{self, Request},
    facts::{self, Fact},
    metrics::Metrics,
    process, wait,
};

/// A bound on stopping where the machine is busy: the kernel detaches one program after the other,
/// and waits each time for every processor that may run it.
pub const STOP_BOUND: Duration = Duration::from_secs(30);
/// The promise of docs/OPERATIONS.md where the machine is idle: detached, drained and exited.
const PROMISED_STOP: Duration = Duration::from_secs(2);

/// The built program; `cargo xtask test` names it in the environment.
pub fn binary() -> Result<PathBuf> {
    let path = env::var_os("GUNICORN_OBSERVER_BIN")
        .map(PathBuf::from)
        .context("GUNICORN_OBSERVER_BIN is not set: run `cargo xtask test privileged`")?;
    ensure!(
        path.exists(),
        "{} does not exist: run `cargo xtask test privileged`",
        path.display()
    );
    Ok(path)
}

/// A port that is free now.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Runs it to its end, as for `replay` or a start that must fail.
pub fn output(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
    output_of(&binary()?, arguments)
}

/// The same for this program.
pub fn output_of(
    binary: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Output> {
    Command::new(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot start the observer")
}

/// The same as a user who is not root.
pub fn output_as_nobody(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
    // Nobody can reach the folder it was built in.
    let folder = TempDir::new().context("cannot make a folder for a copy of the observer")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("gunicorn-observer");
    fs::copy(binary()?, &copy).context("cannot copy the observer")?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg("--")
        .arg(&copy)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot start the observer as nobody")
}

/// Whether it says that it is ready.
fn is_ready(port: u16) -> bool {
    let ready = client::fetch(port, &Request::get("/readyz"));
    ready.is_ok_and(|response| response.status == 200)
}

/// Whether it says that features are still loading; not if it does not answer to anybody.
fn is_loading(port: u16) -> bool {
    let metrics = client::fetch(port, &Request::get("/metrics"));
    metrics.is_ok_and(|response| {
        let loading = b"reason=\"still loading\"";
        response
            .body
            .windows(loading.len())
            .any(|text| text == loading)
    })
}

/// Every backend that the observer lets one choose, and this kernel has.
pub fn backends() -> Result<Vec<Backend>> {
    let mut help = vec!["run".to_owned()];
    help.extend(Backend::Syscalls.arguments());
    help.push("--help".to_owned());
    if !output(help)?.status.success() {
        return Ok(vec![Backend::Own]);
    }
    let taps = backend::has_taps()?.then_some(Backend::Taps);
    Ok(taps.into_iter().chain([Backend::Syscalls]).collect())
}

/// Writes a recording of a made-up fleet: apps, workers of each, routes of each.
pub fn fleet(recording: &Path, apps: u32, workers: u32, routes: u32) -> Result<()> {
    // Built beside it.
    let program = binary()?.with_file_name("examples/fleet");
    let status = Command::new(&program)
        .arg(recording)
        .args([apps, workers, routes].map(|number| number.to_string()))
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(status.success(), "the fleet's record: {status}");
    Ok(())
}

/// The exposition of a recording.
pub fn replay(recording: &Path) -> Result<String> {
    replayed(&binary()?, &[OsStr::new("replay"), recording.as_os_str()])
}

/// The finished requests of a recording.
pub fn replay_requests(recording: &Path) -> Result<Vec<Fact>> {
    requests_of(&binary()?, recording)
}

fn requests_of(binary: &Path, recording: &Path) -> Result<Vec<Fact>> {
    facts::parse(&replayed(
        binary,
        &[
            OsStr::new("replay"),
            recording.as_os_str(),
            OsStr::new("--requests"),
        ],
    )?)
}

fn replayed(binary: &Path, arguments: &[&OsStr]) -> Result<String> {
    let output = output_of(binary, arguments)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "replay ended with {}: {stderr}",
        output.status
    );
    String::from_utf8(output.stdout).context("replay did not print UTF-8")
}

/// A running observer; stopped when dropped.
pub struct Observer {
    child: Child,
    binary: PathBuf,
    /// Its port on 127.0.0.1.
    pub port: u16,
    folder: TempDir,
}

/// The files of a stopped observer.
pub struct Stopped {
    pub stderr: String,
    binary: PathBuf,
    folder: TempDir,
}

impl Stopped {
    /// The file it recorded to.
    #[must_use]
    pub fn recording(&self) -> PathBuf {
        self.folder.path().join(RECORDING)
    }

    /// The finished requests it recorded.
    pub fn requests(&self) -> Result<Vec<Fact>> {
        requests_of(&self.binary, &self.recording())
    }
}

const RECORDING: &str = "recording";

impl Observer {
    /// `run` over every master of this host.
    pub fn run() -> Result<Self> {
        Self::start(&binary()?, false, &[])
    }

    /// `run` over these masters only.
    pub fn run_for(masters: &[u32]) -> Result<Self> {
        Self::start(&binary()?, false, masters)
    }

    /// The same at this port.
    pub fn run_at(port: u16, masters: &[u32]) -> Result<Self> {
        let masters = masters.iter().map(|pid| format!("--pid={pid}"));
        Self::start_as(&binary()?, port, |command, _| {
            command.arg("run").args(masters);
        })
    }

    /// `record` over these masters only.
    pub fn record_for(masters: &[u32]) -> Result<Self> {
        Self::start(&binary()?, true, masters)
    }

    /// The same with this backend.
    pub fn record_by(backend: Backend, masters: &[u32]) -> Result<Self> {
        let masters = masters.iter().map(|pid| format!("--pid={pid}"));
        Self::start_with(
            &binary()?,
            true,
            backend.arguments().into_iter().chain(masters),
        )
    }

    /// `record` over these masters only, without control groups in sight.
    pub fn record_without_control_groups(masters: &[u32]) -> Result<Self> {
        let own = binary()?;
        let masters = masters.iter().map(|pid| format!("--pid={pid}").into());
        Self::start_as(Path::new("env"), free_port()?, |command, folder| {
            let mut record = vec![own.into(), "record".into(), folder.join(RECORDING).into()];
            record.extend(masters);
            command.args(cgroup::out_of_sight(&record));
        })
    }

    /// `record` to this file.
    pub fn record_to(file: &Path, masters: &[u32]) -> Result<Self> {
        let masters = masters.iter().map(|pid| format!("--pid={pid}"));
        Self::start_as(&binary()?, free_port()?, |command, _| {
            command.arg("record").arg(file).args(masters);
        })
    }

    /// `run` over every master of this host, as the node of this name, with this kubeconfig and more
    /// arguments.
    pub fn run_in_cluster(node: &str, config: &Path, more: &[String]) -> Result<Self> {
        Self::start_as(&binary()?, free_port()?, |command, _| {
            command.env("KUBECONFIG", config);
            command.args(["run", "--kubernetes", "--node-name", node]);
            command.args(more);
        })
    }

    /// `run` over every master of this host; waits until it says that it is ready, and not for features
    /// that it loads later.
    pub fn run_until_ready(binary: &Path) -> Result<Self> {
        let arguments = |command: &mut Command, _: &Path| {
            command.arg("run");
        };
        Self::start_until(is_ready, binary, free_port()?, arguments)
    }

    /// Waits until every feature is loaded.
    pub fn wait_until_loaded(&self) -> Result<()> {
        wait::until("every feature to be loaded", || {
            Ok((!is_loading(self.port)).then_some(()))
        })
    }

    /// Starts `binary`, and waits until it is ready and every feature is loaded.
    pub fn start(binary: &Path, record: bool, masters: &[u32]) -> Result<Self> {
        let masters = masters.iter().map(|pid| format!("--pid={pid}"));
        Self::start_with(binary, record, masters)
    }

    /// The same with these arguments.
    pub fn start_with(
        binary: &Path,
        record: bool,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self> {
        Self::start_as(binary, free_port()?, |command, folder| {
            if record {
                command.arg("record").arg(folder.join(RECORDING));
            } else {
                command.arg("run");
            }
            command.args(arguments);
        })
    }

    /// `replay --serve` of a recording: nothing is observed.
    pub fn show(recording: &Path) -> Result<Self> {
        Self::start_as(&binary()?, free_port()?, |command, _| {
            command.args(["replay", "--serve"]).arg(recording);
        })
    }

    /// The same behind a web configuration.
    pub fn show_guarded(recording: &Path, web_config: &Path) -> Result<Self> {
        let arguments = |command: &mut Command, _: &Path| {
            command.args(["replay", "--serve"]).arg(recording);
            command.arg("--web-config").arg(web_config);
        };
        let is_open = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let is_loaded = |port| is_open(port) && !is_loading(port);
        Self::start_until(is_loaded, &binary()?, free_port()?, arguments)
    }

    fn start_as(
        binary: &Path,
        port: u16,
        arguments: impl FnOnce(&mut Command, &Path),
    ) -> Result<Self> {
        let is_loaded = |port| is_ready(port) && !is_loading(port);
        Self::start_until(is_loaded, binary, port, arguments)
    }

    fn start_until(
        is_ready: impl Fn(u16) -> bool,
        binary: &Path,
        port: u16,
        arguments: impl FnOnce(&mut Command, &Path),
    ) -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder for the observer's log")?;
        let mut command = process::bound_to_us(binary);
        arguments(&mut command, folder.path());
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        let stderr = File::create(folder.path().join("stderr"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(stderr.try_clone()?)
            .stderr(stderr)
            .spawn()
            .context("cannot start the observer")?;
        let mut observer = Self {
            child,
            binary: binary.to_owned(),
            port,
            folder,
        };
        wait::until("the observer to be ready", || {
            if let Some(status) = observer.child.try_wait()? {
                bail!(
                    "the observer ended with {status}; it said:\n{}",
                    observer.stderr()?
                );
            }
            Ok(is_ready(observer.port).then_some(()))
        })
        .with_context(|| format!("it said:\n{}", observer.stderr().unwrap_or_default()))?;
        Ok(observer)
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far.
    pub fn stderr(&self) -> Result<String> {
        fs::read_to_string(self.folder.path().join("stderr")).context("cannot read its log")
    }

    /// `/metrics`, as served.
    pub fn scrape_text(&self) -> Result<String> {
        let response = client::fetch(self.port, &Request::get("/metrics"))?;
        ensure!(
            response.status == 200,
            "/metrics answered {}",
            response.status
        );
        String::from_utf8(response.body).context("/metrics is not UTF-8")
    }

    /// `/metrics`, read.
    pub fn scrape(&self) -> Result<Metrics> {
        Metrics::parse(&self.scrape_text()?)
    }

    /// Scrapes until a scrape is as wanted; else fails with the last one.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Result<Metrics> {
        let waited = wait::until(what, || {
            let metrics = self.scrape()?;
            Ok(wanted(&metrics).then_some(metrics))
        });
        waited.with_context(|| {
            format!(
                "last scrape:\n{}\nits log:\n{}",
                self.scrape_text().unwrap_or_default(),
                self.stderr().unwrap_or_default()
            )
        })
    }

    /// Waits until it has counted this many requests of a master's workers.
    pub fn wait_for_requests(&self, master: u32, count: usize) -> Result<Metrics> {
        let master = master.to_string();
        self.wait_until(&format!("{count} requests of master {master}"), |metrics| {
            let counted = metrics.sum("gunicorn_worker_requests_total", &[("master_pid", &master)]);
            counted.to_string() == count.to_string()
        })
    }

    /// Stops it with a SIGTERM, and checks that it exits with success.
    pub fn stop(self) -> Result<Stopped> {
        self.stop_within(STOP_BOUND)
    }

    /// The same, in the time that is promised. For tests that have the machine for themselves.
    pub fn stop_as_promised(self) -> Result<Stopped> {
        self.stop_within(PROMISED_STOP)
    }

    fn stop_within(mut self, bound: Duration) -> Result<Stopped> {
        process::signal(self.pid(), Signal::SIGTERM)?;
        let status = process::wait_for(&mut self.child, bound)?;
        let stderr = self.stderr()?;
        let Some(status) = status else {
            bail!("it did not end within {bound:?} of a SIGTERM; it said:\n{stderr}");
        };
        ensure!(
            status.success(),
            "it ended with {status} after a SIGTERM; it said:\n{stderr}"
        );
        ensure!(!stderr.contains("panicked"), "it panicked:\n{stderr}");
        let folder = std::mem::replace(&mut self.folder, TempDir::new()?);
        Ok(Stopped {
            stderr,
            binary: std::mem::take(&mut self.binary),
            folder,
        })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        process::end(&mut self.child, STOP_BOUND);
    }
}
