//! Targets that corrupt their own memory, or exit while they are read: others are not affected.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::Request,
    compare,
    gunicorn::{Builder, GunicornServer},
    observer::{self, Observer},
    process, skip,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;

/// Requests sent to the healthy server after each thing that happens to another.
const REQUESTS: usize = 5;
/// However bad the others are, a look at all processes ends.
const LIST_BOUND: Duration = Duration::from_secs(10);

/// A server that is well, and the requests it was sent.
struct Healthy {
    server: GunicornServer,
    sent: usize,
}

impl Healthy {
    fn start(venv: &Venv) -> Result<Self> {
        let server = Builder::new(venv, "raw:app").workers(2).start()?;
        Ok(Self { server, sent: 0 })
    }

    fn ask(&mut self) -> Result<()> {
        for _ in 0..REQUESTS {
            let answer = self.server.fetch(&Request::get("/hello"))?;
            ensure!(answer.status == 200, "answered {}", answer.status);
            self.sent += 1;
        }
        Ok(())
    }

    /// Each of its requests is counted, and it is listed.
    fn is_counted(&self, observer: &Observer) -> Result<()> {
        let logged = self.server.wait_for_access_log(self.sent)?;
        let metrics = observer.wait_for_requests(self.server.pid(), self.sent)?;
        compare::workers(&metrics, &self.server, &logged)?;
        let pid = self.server.pid().to_string();
        let labels = [("master_pid", pid.as_str()), ("level", "full")];
        ensure!(metrics.sum("gunicorn_observer_target_level", &labels) > 0.0);
        self.is_listed().map(|_| ())
    }

    fn is_listed(&self) -> Result<Vec<serde_json::Value>> {
        let start = Instant::now();
        let listed = observer::output(["list", "--json"])?;
        let said = String::from_utf8_lossy(&listed.stderr);
        ensure!(listed.status.success(), "list: {}: {said}", listed.status);
        ensure!(
            start.elapsed() < LIST_BOUND,
            "list took {:?}",
            start.elapsed()
        );
        let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout)?;
        let row = listed.iter().find(|row| row["pid"] == self.server.pid());
        let workers = row.and_then(|row| row["workers"].as_array());
        ensure!(
            workers.is_some_and(|workers| workers.len() == 2),
            "the healthy server is not listed: {listed:?}"
        );
        Ok(listed)
    }
}

#[test]
fn workers_that_ruin_their_own_interpreter_harm_no_other() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for venv in Venv::all()? {
        let mut healthy = Healthy::start(&venv)?;
        let mut ruined = Builder::new(&venv, "garbage:app").start()?;
        let observer = Observer::run()?;
        for path in ["/scribble", "/unmap", "/scribble"] {
            let before = ruined.workers();
            // The worker may answer before it notices; it may die first.
            let _ = ruined.fetch(&Request::get(path));
            wait::until("the ruined worker to be replaced", || {
                let now = ruined.workers();
                Ok((!now.is_empty() && now != before).then_some(()))
            })
            .with_context(|| format!("{path} on {}", venv.name()))?;
            ruined.wait_for_workers(1)?;
            healthy.ask()?;
        }
        healthy.is_counted(&observer)?;
        observer.stop()?;
    }
    Ok(())
}

/// What is written over `_PyRuntime`: nothing, no address, addresses of itself, and so on.
fn patterns(runtime: u64) -> [(&'static str, Vec<u8>); 5] {
    const WORDS: usize = 2048;
    let words = |word: &dyn Fn(u64) -> u64| {
        (0..WORDS as u64)
            .flat_map(|at| word(at).to_le_bytes())
            .collect()
    };
    [
        ("zeros", words(&|_| 0)),
        ("ones", words(&|_| u64::MAX)),
        ("itself", words(&|_| runtime)),
        (
            "a chain through itself",
            words(&|at| runtime + 8 * (at + 1)),
        ),
        (
            "a wild mix",
            words(&|at| runtime.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40)),
        ),
    ]
}

/// A master that lives and cannot be understood, before the observer starts and while it runs.
#[test]
fn a_master_whose_memory_is_garbage_harms_no_other() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for venv in Venv::all()? {
        let mut healthy = Healthy::start(&venv)?;
        let ruined = Builder::new(&venv, "garbage:app").start()?;
        let answer = ruined.fetch(&Request::get("/"))?.body;
        let runtime: u64 = String::from_utf8(answer)?.trim().parse()?;
        let early = Observer::run()?;
        // It would only crash: stopped, it stays to be looked at.
        ruined.signal(Signal::SIGSTOP)?;
        let memory = File::options()
            .write(true)
            .open(format!("/proc/{}/mem", ruined.pid()))?;
        for (name, pattern) in patterns(runtime) {
            memory
                .write_all_at(&pattern, runtime)
                .with_context(|| format!("cannot write {name}"))?;
            let late = Observer::run().with_context(|| format!("starting over {name}"))?;
            healthy.ask()?;
            let metrics = late.wait_for_requests(healthy.server.pid(), REQUESTS)?;
            compare::nothing_lost(&metrics)?;
            let listed = healthy.is_listed().with_context(|| name.to_owned())?;
            // It is not made up from what is left: it is observed by its connections, if at all.
            let made_up = listed
                .iter()
                .any(|row| row["pid"] == ruined.pid() && row["level"] == "full");
            ensure!(!made_up, "{name}: {listed:?}");
            late.stop().with_context(|| name.to_owned())?;
        }
        process::signal(ruined.pid(), Signal::SIGKILL)?;
        healthy.is_counted(&early)?;
        early.stop()?;
    }
    Ok(())
}

/// Masters are killed as soon as they listen, when they are just being looked at, and before.
#[test]
fn masters_that_die_while_they_are_looked_at_harm_no_other() -> Result<()> {
    const MASTERS: u64 = 16;
    if skip::privileged()? {
        return Ok(());
    }
    let venv = Venv::debian()?;
    let mut healthy = Healthy::start(&venv)?;
    let observer = Observer::run()?;
    for round in 0..MASTERS {
        let builder = Builder::new(&venv, "raw:app").workers(3);
        let mut server = builder.start_listening()?;
        let started = Instant::now();
        // Ever later within what an observer needs to find it.
        let delay = Duration::from_millis(10 * round);
        let listing = std::thread::spawn(|| observer::output(["list"]));
        while started.elapsed() < delay {
            std::hint::spin_loop();
        }
        server.kill()?;
        let listed = listing
            .join()
            .map_err(|_| anyhow::anyhow!("a thread of this test panicked"))??;
        let said = String::from_utf8_lossy(&listed.stderr);
        ensure!(listed.status.success(), "list: {}: {said}", listed.status);
        healthy.ask()?;
    }
    healthy.is_counted(&observer)?;
    compare::nothing_lost(&observer.scrape()?)?;
    observer.stop()?;
    Ok(())
}
