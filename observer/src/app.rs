//! The daemon: the one file that knows every task, and how they begin and end.
//!
//! ```text
//! main thread ── runtime ──┬── engine  (owns the state; drains the ring buffer)
//!                          └── http    (asks the engine for snapshots)
//! watcher thread ── follows processes, owns the programs; facts ─> engine ─> seen
//! ```
//!
//! The end: the engine stops, which ends the watcher, which detaches the
//! programs; then what the ring buffer still holds is taken.

use crate::clock;
use crate::config;
use crate::discover::procfs::ProcFs;
use crate::discover::tree::{Candidate, Tree};
use crate::engine::Engine;
use crate::event::Pid;
use crate::fact::{Fact, Started};
use crate::ingest::record::Recorder;
use crate::ingest::ring::Ring;
use crate::model::State;
use crate::probe::interpreters::Interpreters;
use crate::probe::tables::Tables;
use crate::probe::totals::Totals;
use crate::probe::{load, preflight, tracefs};
use crate::sink::http::{self, SnapshotSource};
use crate::watcher::Watcher;
use anyhow::{Context as _, Result, anyhow, bail};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Where processes are looked at.
pub const PROC: &str = "/proc";

/// Runs until SIGTERM or SIGINT; `record` is a file that takes all input.
///
/// # Errors
/// When this host, the options or the file speak against it.
pub fn run(run: &config::Run, record: Option<&Path>) -> Result<()> {
    preflight::privileged()?;
    tracefs::ensure()?;
    let mut tree = tree()?;
    let only = run
        .pids
        .iter()
        .map(|&pid| master_of(&mut tree, pid))
        .collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(observe(run, record, tree, only))
}

/// The processes of this host.
///
/// # Errors
/// When the kernel does not tell its clocks.
pub fn tree() -> Result<Tree> {
    let procfs = ProcFs::new(PROC).context("cannot read the clocks of this kernel")?;
    Ok(Tree::new(procfs))
}

/// The master that a pid of the user's means.
fn master_of(tree: &mut Tree, pid: Pid) -> Result<Pid> {
    match tree.inspect_candidate(pid) {
        Candidate::Master(_) => Ok(pid),
        Candidate::WorkerOf(master) => Ok(master),
        Candidate::Refused { reason } => bail!("process {pid} cannot be observed: {reason}"),
        _ if tree.procfs().process(pid).is_err() => {
            bail!("there is no process {pid}; `gunicorn-observer list` shows the masters that run")
        }
        Candidate::NotReady { reason } => {
            bail!("process {pid} is no running Gunicorn master yet: {reason}; try again")
        }
        Candidate::NotGunicorn => bail!(
            "process {pid} is no Gunicorn master or worker; `gunicorn-observer list` shows those that run"
        ),
    }
}

async fn observe(
    run: &config::Run,
    record: Option<&Path>,
    tree: Tree,
    only: Vec<Pid>,
) -> Result<()> {
    let stop = stop_signal()?;
    let listener = http::bind(&run.listen).await?;
    let address = listener.local_addr().context("the address listened on")?;
    let recorder = record.map(recorder).transpose()?;

    let mut ebpf = load::load()?;
    let interpreters = Arc::new(AtomicU32::new(0));
    let (tell, facts) = mpsc::unbounded_channel();
    let (see, seen) = std::sync::mpsc::channel();
    let (ready, is_ready) = watch::channel(false);
    let (source, requests) = SnapshotSource::new(is_ready);
    let engine = Engine {
        state: State::new(run.model.settings.clone()),
        ring: Ring::take(&mut ebpf)?,
        totals: Totals::take(&mut ebpf, Arc::clone(&interpreters))?,
        facts,
        requests,
        seen: see,
        recorder,
    };
    let tables = Tables::take(&mut ebpf)?;
    load::attach_host(&mut ebpf)?;
    // The engine is gone only while everything ends.
    let _ = tell.send(Fact::Started(Started {
        wall_offset_ns: clock::wall_offset_ns(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("GUNICORN_OBSERVER_REVISION")
            .unwrap_or_default()
            .to_owned(),
    }));
    let interpreters = Interpreters::new(ebpf, interpreters);
    let mut watcher = Watcher::new(tables, interpreters, tell, tree, only);
    let watching = std::thread::Builder::new()
        .name("watcher".to_owned())
        .spawn(move || {
            watcher.scan();
            tracing::info!("observing; metrics at http://{address}/metrics");
            // Nobody waits for it while everything ends.
            let _ = ready.send(true);
            watcher.run(&seen);
        })?;

    let served = tokio::spawn(http::serve(
        listener,
        source,
        run.model.worker_label,
        stopped(stop.clone()),
    ));
    let ended = engine.run(stopped(stop)).await;
    served.await.context("the HTTP server failed")?;
    let watched = tokio::task::spawn_blocking(move || watching.join()).await?;
    watched.map_err(|_| anyhow!("the watcher of processes failed; please report it"))?;
    ended
}

fn recorder(path: &Path) -> Result<Recorder<File>> {
    let name = path.display();
    let file = File::create(path).with_context(|| {
        format!("cannot write the record {name}; is its folder there and writable?")
    })?;
    Recorder::new(file).with_context(|| format!("cannot write the record {name}"))
}

/// Turns true at SIGTERM or SIGINT.
fn stop_signal() -> Result<watch::Receiver<bool>> {
    let (tell, stop) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        // Nobody waits for it when all has failed.
        let _ = tell.send(true);
    });
    Ok(stop)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the hope for a signal.
    let _ = stop.wait_for(|&stopped| stopped).await;
}
