//! A hostile user starts programs that look like Gunicorns: they affect nobody, learn nothing through
//! the observer, and make it attach to nothing but their own interpreter.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{self, Request},
    compare,
    gunicorn::{Builder, GunicornServer},
    load::ask,
    metrics::Metrics,
    observer::{self, Observer},
    process, skip,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;
use tempfile::TempDir;

const IMPOSTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/apps/impostor.py");
/// The interpreter of the host, which everybody may read.
const PYTHON: &str = "/usr/bin/python3.11";
const NOBODY: u32 = 65534;
/// In a file and in an environment that only root may read.
const SECRET: &str = "an-hourglass-of-basalt";
/// What the impostor would like to have as a family of its own.
const FORGED: &str = "fake_total";
const REQUESTS: usize = 20;
const GRACE: Duration = Duration::from_secs(2);

/// What is wrong with an impostor (`tests/apps/impostor.py`).
const LIES: [&str; 4] = ["plain", "circles", "requests", "memory"];
/// With one that replaces the file of its own interpreter.
const TRAPS: [&str; 4] = ["link", "pipe", "program", "mount"];

/// One that runs, as a user without rights; ended when dropped.
struct Impostor {
    child: Child,
    log: PathBuf,
}

impl Impostor {
    /// Starts it in a folder of its own, where it claims a process that is not its.
    fn start(shared: &Path, trick: &str, claimed: u32, secret: &Path) -> Result<Self> {
        let folder = shared.join(trick);
        fs::create_dir(&folder)?;
        chown(&folder, Some(NOBODY), Some(NOBODY))?;
        let script = shared.join("impostor.py");
        let mut python = PathBuf::from(PYTHON);
        if TRAPS.contains(&trick) {
            python = folder.join("python3.11");
            fs::copy(PYTHON, &python).context("cannot copy the interpreter")?;
        }
        let log = folder.join("log");
        let output = File::create(&log)?;
        let mut command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        command.args([user.as_str(), &group, "--clear-groups", "--"]);
        if trick == "mount" {
            command.args(["unshare", "--user", "--map-root-user", "--mount", "--"]);
        }
        let child = command
            .arg(python)
            .args([script.as_path(), &folder, Path::new(trick)])
            .arg(claimed.to_string())
            .arg(secret)
            // A copy of the interpreter finds its library there.
            .env("PYTHONHOME", "/usr")
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the impostor")?;
        let mut impostor = Self { child, log };
        wait::until("the impostor to run", || {
            let said = fs::read_to_string(&impostor.log)?;
            let ended = impostor.child.try_wait()?;
            ensure!(ended.is_none(), "{trick} ended with {ended:?}: {said}");
            Ok(said.contains("running").then_some(()))
        })?;
        Ok(impostor)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let own = process::children(self.pid());
        process::end(&mut self.child, GRACE);
        for child in own {
            // It ends by itself, too.
            let _ = process::signal(child, Signal::SIGKILL);
        }
    }
}

/// Everything that the observer serves or prints.
fn published(observer: &Observer, impostors: &[Impostor]) -> Result<Vec<(String, String)>> {
    let mut published = vec![
        ("metrics".to_owned(), observer.scrape_text()?),
        ("log".to_owned(), observer.stderr()?),
    ];
    let snapshot = client::fetch(observer.port, &Request::get("/api/v1/snapshot"))?;
    published.push((
        "snapshot".to_owned(),
        String::from_utf8_lossy(&snapshot.body).into_owned(),
    ));
    let pids = impostors.iter().map(|impostor| impostor.pid().to_string());
    let stacks = pids.map(|pid| vec!["stack".to_owned(), pid]);
    let others = [["list", "--json"], ["doctor", "--json"]];
    let others = others.map(|words| words.map(str::to_owned).to_vec());
    for arguments in others.into_iter().chain(stacks) {
        let output = observer::output(&arguments)?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(!said.contains("panicked"), "{arguments:?}: {said}");
        published.push((arguments.join(" "), said));
    }
    Ok(published)
}

/// Where the probe on requests is attached.
fn attachments(metrics: &Metrics) -> f64 {
    metrics.sum(
        "gunicorn_observer_program_attachments",
        &[("program", "datetime_now")],
    )
}

#[test]
fn what_only_looks_like_a_gunicorn_harms_nobody_and_learns_nothing() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let shared = TempDir::new().context("cannot make a folder for the impostors")?;
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o755))?;
    fs::copy(IMPOSTOR, shared.path().join("impostor.py"))?;
    let secret = shared.path().join("secret");
    fs::write(&secret, SECRET)?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let victim = Builder::new(&Venv::debian()?, "raw:app")
        .workers(2)
        .variable("SECRET", SECRET)
        .start()?;
    let claimed = *victim.workers().first().context("it has no worker")?;

    let observer = Observer::run()?;
    let before = attachments(&observer.wait_until("the victim", |metrics| {
        metrics.sum("gunicorn_observer_target_level", &[]) > 0.0
    })?);
    let start = |trick: &&str| Impostor::start(shared.path(), trick, claimed, &secret);
    let impostors = LIES
        .iter()
        .chain(&TRAPS)
        .map(start)
        .collect::<Result<Vec<_>>>()?;
    // They are taken for what they say they are, by all that can be seen of them.
    let metrics = observer.wait_until("the impostors", |metrics| {
        impostors.iter().all(|impostor| {
            let pid = impostor.pid().to_string();
            metrics.sum("gunicorn_observer_target_level", &[("master_pid", &pid)]) > 0.0
        })
    })?;
    ask(&victim, "/hello", REQUESTS)?;
    is_counted(&observer, &victim, REQUESTS)?;

    // What runs in a copy of the interpreter is probed there, and nothing else is.
    let own = TRAPS.len() as f64;
    let found = attachments(&metrics) - before;
    ensure!(found <= own, "{found} more attachments, of {own} copies");
    let metrics = observer.scrape()?;
    for (pid, master) in [(claimed, victim.pid()), (1, 0)] {
        let pid = pid.to_string();
        let labels = [("worker_pid", pid.as_str())];
        let of: Vec<_> = metrics
            .all("gunicorn_worker_info", &labels)
            .map(|sample| sample.label("master_pid").to_owned())
            .collect();
        let wanted: Vec<_> = (master != 0)
            .then(|| master.to_string())
            .into_iter()
            .collect();
        ensure!(
            of == wanted,
            "{pid} is a worker of {of:?}, not of {wanted:?}"
        );
    }
    for (what, text) in published(&observer, &impostors)? {
        ensure!(!text.contains(SECRET), "{what} has the secret:\n{text}");
        let forged = text.lines().any(|line| line.starts_with(FORGED));
        ensure!(!forged, "{what} has a forged line:\n{text}");
    }
    drop(impostors);
    ask(&victim, "/hello", REQUESTS)?;
    is_counted(&observer, &victim, 2 * REQUESTS)?;
    // Five interpreters are let go, one after the other.
    observer.stop()?;
    Ok(())
}

/// Each request of a real Gunicorn, for its worker.
fn is_counted(observer: &Observer, server: &GunicornServer, count: usize) -> Result<()> {
    let logged = server.wait_for_access_log(count)?;
    let metrics = observer.wait_for_requests(server.pid(), logged.len())?;
    compare::workers(&metrics, server, &logged)
}
