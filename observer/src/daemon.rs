//! What observes: the one file that knows every task, and how they begin and end.
//!
//! ```text
//! main thread ── runtime ──┬── engine  (owns the state; drains the ring buffer)
//!                          └── http    (asks the engine for snapshots)
//! lines thread ── writes what the engine hands it; the engine waits for nobody
//! screen thread ── draws what the engine is asked for each second; its end ends everything
//! watcher thread ── follows processes, owns the programs; facts ─> engine ─> seen
//! ```
//!
//! The end, by a signal or because one of them failed: the engine stops, which
//! ends the watcher, which detaches the programs; then what the ring buffer still
//! holds is taken, and the lines of it are written.

use crate::clock;
use crate::config;
use crate::engine::Engine;
use crate::gunicorn::tree::{Candidate, Pods, Tree};
use crate::http::server;
use crate::http::web_config::Web;
use crate::ingest::record::Recorder;
use crate::ingest::ring::Ring;
use crate::kubernetes::{self, Directory, Told};
use crate::privilege;
use crate::probe::bpf_maps::Tables;
use crate::probe::generic_io::PlainCalls;
use crate::probe::gil::GilWaits;
use crate::probe::in_flight::InFlightReader;
use crate::probe::interpreters::Interpreters;
use crate::probe::kernel::Types;
use crate::probe::load::{self, Loaded};
use crate::probe::program_stats::{Places, Totals};
use crate::probe::{attach, preflight, tracefs};
use crate::query::Source;
use crate::shutdown::Stop;
use crate::top;
use crate::top::{Appearance, Own};
use crate::trace;
use crate::trace::Format;
use crate::trace::filter::Filter;
use crate::trim_memory;
use crate::watcher::{DeepCaptures, Seen, Watcher};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use observer_model::State;
use observer_model::event::Pid;
use observer_model::fact;
use observer_model::fact::{Fact, Started};
use observer_model::settings::WorkerLabel;
use observer_model::views::metrics_view::ObserverView;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use tokio::runtime;
use tokio::sync::{mpsc, watch};

/// Where what is observed goes.
#[derive(Clone, Debug, Default)]
pub struct Outputs<'a> {
    /// Where metrics are served, and to whom.
    pub metrics: Option<&'a config::Serve>,
    /// A file that takes all input.
    pub record: Option<&'a Path>,
    /// FinishedRequest requests that are written to standard output, and how.
    pub lines: Option<(Filter, Format)>,
    /// The terminal that all of it is shown on, and how.
    pub screen: Option<Appearance>,
}

/// Runs until SIGTERM or SIGINT, until nobody reads its lines, or until somebody quits its screen.
///
/// # Errors
/// When this host, the options or an output speak against it.
pub fn run(observe: &config::Observe, outputs: Outputs<'_>) -> Result<()> {
    preflight::privileged()?;
    tracefs::ensure()?;
    let mut tree = Tree::of_host()?;
    let only = observe
        .pids
        .iter()
        .map(|&pid| master_of(&mut tree, pid))
        .collect::<Result<_>>()?;
    let opened = Opened {
        served: outputs.metrics.map(Served::open).transpose()?,
        recorder: outputs.record.map(recorder).transpose()?,
    };
    // Threads inherit what is left.
    load::raise_memlock();
    if let Err(error) = privilege::keep_needed() {
        tracing::warn!("capabilities that are not needed could not be given up: {error}");
    }
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(until_stopped(observe, outputs, opened, tree, only))
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
        Candidate::NotReady { reason, .. } => {
            bail!("process {pid} is no running Gunicorn master yet: {reason}; try again")
        }
        Candidate::NotGunicorn => bail!(
            "process {pid} is no Gunicorn master or worker; `gunicorn-observer list` shows those that run"
        ),
    }
}

/// What is opened while nothing was given up yet.
struct Opened {
    served: Option<Served>,
    recorder: Option<Recorder<File>>,
}

/// Where is listened, and by which rules.
struct Served {
    listener: TcpListener,
    web: Web,
}

impl Served {
    fn open(serve: &config::Serve) -> Result<Self> {
        let web = Web::open(serve.web_config.as_deref())?;
        // By a runtime of its own, whose end ends no listener that was taken out of it.
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot start")?;
        let listener = runtime.block_on(server::bind(&serve.listen))?.into_std()?;
        Ok(Self { listener, web })
    }
}

async fn until_stopped(
    observe: &config::Observe,
    outputs: Outputs<'_>,
    opened: Opened,
    tree: Tree,
    only: Vec<Pid>,
) -> Result<()> {
    let pods = Pods {
        directory: Directory::default(),
        node: observe.node_name.clone().unwrap_or_default(),
    };
    let cluster = if observe.kubernetes {
        ensure!(
            !pods.node.is_empty(),
            "--kubernetes needs the name of this node: give it by --node-name, in a pod from the \
             field spec.nodeName"
        );
        Some(kubernetes::client().await?)
    } else {
        None
    };
    let stop = Stop::on_signal()?;
    let listener = opened
        .served
        .map(|Served { listener, web }| Ok((tokio::net::TcpListener::from_std(listener)?, web)))
        .transpose()
        .map_err(|error: io::Error| anyhow!("cannot listen: {error}"))?;
    let screen = outputs
        .screen
        .map(|appearance| Own::start(&appearance, stop.clone().on_drop()))
        .transpose()?;
    let told = match &listener {
        Some((listener, web)) => {
            let address = listener.local_addr().context("the address listened on")?;
            format!("metrics at {}://{address}/metrics", web.scheme())
        }
        None => "Ctrl-C ends it".to_owned(),
    };

    let types = Types::read(observe.btf.as_deref())?;
    let Loaded {
        mut ebpf,
        mut absent,
        ..
    } = load::load(&types)?;
    #[cfg(feature = "probe-log")]
    crate::probe::log::start(&mut ebpf)?;
    let places = Places {
        gil: observe.gil.into(),
        ..Places::default()
    };
    let gil = observe.gil.then(|| GilWaits::of(&mut ebpf)).transpose()?;
    let mut host = attach::attach_host(&mut ebpf, &mut absent)?;
    if observe.gil {
        host.extend(attach::attach_gil(&mut ebpf, &mut absent)?);
    }
    for (feature, refusal) in absent.iter() {
        tracing::warn!("no {}: {}; {}", feature.name, refusal.why, feature.without);
    }
    let (tell, facts) = mpsc::unbounded_channel();
    let (see, seen) = std::sync::mpsc::channel();
    let (ready, is_ready) = watch::channel(false);
    let (source, asked) = Source::new(is_ready);
    let mut state = State::new(observe.model.settings.clone());
    let (lines, writer) = match outputs.lines {
        Some((filter, format)) => {
            state.report_requests();
            let out = io::stdout().as_fd().try_clone_to_owned();
            let out = File::from(out.context("cannot write to standard output")?);
            let (lines, writer) = trace::start(filter, format, out, stop.clone().on_drop())?;
            (Some(lines), Some(writer))
        }
        None => (None, None),
    };
    let mut engine = Engine {
        state,
        ring: Ring::take(&mut ebpf)?,
        totals: Totals::take(&mut ebpf, places.clone(), &absent)?,
        in_flight: InFlightReader::new(&ebpf)?,
        gil,
        facts,
        asked,
        seen: see.clone(),
        recorder: opened.recorder,
        lines,
    };
    let tables = Tables::take(&mut ebpf)?;
    // A terminal is opened anew to write to it.
    if screen.is_none()
        && let Err(error) = privilege::refuse_changes()
    {
        tracing::warn!("system calls that are not needed are not refused: {error:#}");
    }
    // The engine is gone only while everything ends.
    let _ = tell.send(Fact::from(observe));
    let _ = tell.send(Fact::Started(Started {
        wall_offset_ns: clock::wall_offset_ns(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("GUNICORN_OBSERVER_REVISION")
            .unwrap_or_default()
            .to_owned(),
    }));
    let following = cluster.map(|client| {
        let told = tell_of_pods(pods.directory.clone(), see.clone(), tell.clone());
        let Pods { directory, node } = pods.clone();
        tokio::spawn(async move { kubernetes::follow(client, &node, directory, told).await })
    });
    drop(see);
    let tree = tree.with_pods(pods);
    let interpreters = Interpreters::new(ebpf, host, places.interpreters);
    let plain_calls = PlainCalls::new(places.plain_calls);
    let looks = DeepCaptures::new(observe.no_deep_errors);
    let watcher = Watcher::new(tables, interpreters, plain_calls, looks, tell, tree, only);
    let mut watcher = watcher.counting_gil(observe.gil);
    let watching = {
        let stop = stop.clone();
        std::thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || {
                // Whatever ends the watcher ends the daemon.
                let _stop = stop.on_drop();
                watcher.scan();
                trim_memory::give_back();
                tracing::info!("observing; {told}");
                // Nobody waits for it while everything ends.
                let _ = ready.send(true);
                watcher.run(&seen);
            })?
    };
    let label = observe.model.worker_label;
    let shown = screen
        .as_ref()
        .map(|screen| tokio::spawn(top::source::follow(source.clone(), screen.tell())));
    let served = listener.map(|(listener, web)| {
        tokio::spawn(server::serve(
            listener,
            web,
            source,
            label,
            stop.clone().wait(),
        ))
    });
    let ran = engine.run(stop.clone().wait()).await;
    stop.stop();
    if let Some(following) = following {
        following.abort();
        // What it tells the watcher through goes with it.
        let _ = following.await;
    }
    engine.close();
    let shown_well = match screen {
        Some(screen) => tokio::task::spawn_blocking(|| screen.end()).await?,
        None => Ok(()),
    };
    if let Some(shown) = shown {
        shown.abort();
    }
    let watched = tokio::task::spawn_blocking(move || watching.join()).await?;
    let finished = engine.finish();
    if let Some(served) = served {
        served.await.context("the HTTP server failed")?;
    }
    watched.map_err(|_| anyhow!("the watcher of processes failed; please report it"))?;
    if let Some(writer) = writer {
        writer.end()?;
        tell_lost(finished.as_ref().ok());
    }
    let ended = ran.and(finished.map(drop)).and(shown_well);
    match outputs.record {
        Some(path) => ended.with_context(|| format!("recording to {}", path.display())),
        None => ended,
    }
}

/// What is done when the pods of the node change, or cannot be asked for: the watcher names them anew,
/// the model counts.
fn tell_of_pods(
    directory: Directory,
    see: std::sync::mpsc::Sender<Seen>,
    tell: mpsc::UnboundedSender<Fact>,
) -> impl FnMut(Told) {
    let mut errors = 0;
    move |told| {
        match told {
            Told::Changed => {
                // The watcher is gone only while everything ends.
                let _ = see.send(Seen::PodsChanged);
            }
            Told::Failed { why, again } => {
                // It is asked again and again; the counter tells how often in vain.
                if !again {
                    tracing::warn!("names of pods are not up to date: {why}");
                }
                errors += 1;
            }
        }
        let pods = directory.len() as u64;
        let _ = tell.send(Fact::Kubernetes(fact::Kubernetes { pods, errors }));
    }
}

/// Serves what a state knows at one moment, until SIGTERM or SIGINT. Needs no root.
///
/// # Errors
/// When the address cannot be listened on, or the web configuration is wrong.
pub fn show(state: State, now_ns: u64, serve: &config::Serve, label: WorkerLabel) -> Result<()> {
    let web = Web::open(serve.web_config.as_deref())?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let listener = server::bind(&serve.listen).await?;
        let stop = Stop::on_signal()?;
        let address = listener.local_addr().context("the address listened on")?;
        let scheme = web.scheme();
        tracing::info!("showing what was recorded at {scheme}://{address}/; Ctrl-C ends it");
        let (_ready, is_ready) = watch::channel(true);
        let (source, mut asked) = Source::new(is_ready);
        let served = server::serve(listener, web, source, label, stop.wait());
        let answered = async {
            while let Some(ask) = asked.recv().await {
                ask.answer(&state, now_ns);
            }
        };
        tokio::join!(served, answered);
        Ok(())
    })
}

/// Says what was lost where nobody can ask for metrics.
fn tell_lost(observer: Option<&ObserverView>) {
    for (cause, count) in observer.into_iter().flat_map(ObserverView::losses) {
        tracing::warn!("not all was seen: {count} by `{cause}`; docs/METRICS.md says what that is");
    }
}

fn recorder(path: &Path) -> Result<Recorder<File>> {
    let name = path.display();
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path).with_context(|| {
        format!("cannot write the record {name}; is its folder there and writable?")
    })?;
    Recorder::new(file).with_context(|| format!("cannot write the record {name}"))
}
