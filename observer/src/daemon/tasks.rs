//! Starts the tasks of a daemon.

use super::Outputs;
use super::startup::{Attached, Opened, Readers, Served, pods, url};
use super::stop::Stop;
use super::task::{Task, Thread};
use crate::app_metrics::error::no_errors;
use crate::app_metrics::service::AppMetrics;
use crate::clock;
use crate::config;
use crate::engine::Engine;
use crate::engine::rhythm::Rhythm;
use crate::gunicorn::tree::{Pods, Tree};
use crate::http::server::{self, Endpoints};
use crate::http::web_config::Web;
use crate::ingest::batch::Batch;
use crate::ingest::record_file::RecordFile;
use crate::kubernetes::{Change, Cluster};
use crate::privilege;
use crate::query::Source;
use crate::top::{self, Own};
use crate::trace::filter::Filter;
use crate::trace::{self, Format, Outlet, Writer};
use crate::trim_memory;
use crate::watcher::inbox::{self, Inbox, Notifier};
use crate::watcher::{self, Seen, Watcher};
use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use observer_model::State;
use observer_model::event::Pid;
use observer_model::fact::{Fact, Kubernetes, Started};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::pin::pin;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// Facts that may wait for the engine; then their senders wait.
const MAX_FACTS: usize = 1024;

/// A running daemon.
pub(super) struct Tasks {
    pub stop: Stop,
    pub engine: Engine,
    pub watcher: Thread,
    pub server: Option<Task>,
    pub pods: Option<Task>,
    pub screen: Option<Own>,
    pub views: Option<Task>,
    pub lines: Option<Writer>,
}

impl Tasks {
    /// Attaches the programs and starts every task but the engine.
    pub(super) async fn start(
        observe: &config::Observe,
        outputs: Outputs<'_>,
        opened: Opened,
        tree: Tree,
        only: Vec<Pid>,
    ) -> Result<Self> {
        let (pods, cluster) = pods(observe).await?;
        let stop = Stop::on_signal()?;
        let listener = opened.served.map(Served::into_async).transpose()?;
        let url = listener.as_ref().map(|(listener, web)| url(listener, web));
        let url = url.transpose()?;
        let screen = outputs
            .screen
            .map(|appearance| Own::start(&appearance, stop.clone().on_drop()))
            .transpose()?;
        let attached = Attached::attach(observe, outputs.metrics.is_some())?;
        let lines = outputs.lines.map(|lines| start_lines(lines, &stop));
        let (outlet, lines) = lines.transpose()?.unzip();
        let (mut engine, ends) = engine(observe, attached.readers, opened.record, outlet)?;
        // A terminal is opened again to write to it.
        if screen.is_none() {
            refuse_changes();
        }
        let pods_task = cluster.map(|cluster| {
            let following = follow_pods(cluster, pods.clone(), &ends);
            Task::start("pods", &stop, following)
        });
        let app_metrics = outputs
            .app_metrics
            .then(|| AppMetrics::new(tree.procfs().clone(), ends.facts.clone()));
        if app_metrics.is_some() {
            let errors = no_errors();
            engine.fact(Fact::AppMetrics { errors })?;
        }
        let tree = tree.with_pods(pods);
        let options = watcher::Options {
            only,
            gil: observe.gil,
            no_deep_capture: observe.no_deep_capture,
        };
        let watcher = Watcher::new(attached.programs, ends.facts, tree, options);
        let watcher = start_watcher(watcher, ends.inbox, ends.ready, url, &stop)?;
        let views = screen
            .as_ref()
            .map(|screen| start_views(ends.source.clone(), screen, &stop));
        let label = observe.model.worker_label;
        let endpoints = Endpoints {
            source: ends.source,
            label,
            app_metrics,
        };
        let server = listener.map(|listener| start_server(listener, endpoints, &stop));
        Ok(Self {
            stop,
            engine,
            watcher,
            server,
            pods: pods_task,
            screen,
            views,
            lines,
        })
    }

    /// Runs the engine until the daemon stops.
    pub(super) async fn run(&mut self) -> Result<()> {
        self.engine.run(self.stop.clone().wait()).await
    }
}

/// The other ends of the engine's channels.
struct Ends {
    facts: mpsc::Sender<Fact>,
    notifier: Notifier,
    inbox: Inbox,
    source: Source,
    /// Set once the probes are attached.
    ready: watch::Sender<bool>,
}

/// The engine, which knows its settings and its start.
fn engine(
    observe: &config::Observe,
    readers: Readers,
    record: Option<RecordFile>,
    lines: Option<Outlet>,
) -> Result<(Engine, Ends)> {
    let (facts, found) = mpsc::channel(MAX_FACTS);
    let (notifier, inbox) = inbox::channel();
    let (ready, is_ready) = watch::channel(false);
    let (source, asked) = Source::new(is_ready);
    let mut state = State::new(observe.model.settings.clone());
    if lines.is_some() {
        state.report_requests();
    }
    let mut engine = Engine {
        state,
        rhythm: Rhythm::default(),
        ring: readers.ring,
        batch: Batch::default(),
        totals: readers.totals,
        in_flight: readers.in_flight,
        gil: readers.gil,
        facts: found,
        asked,
        watcher: notifier.clone(),
        record,
        lines,
    };
    engine.fact(Fact::from(observe))?;
    engine.fact(Fact::Started(Started {
        wall_offset_ns: clock::wall_offset_ns(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("GUNICORN_OBSERVER_REVISION")
            .unwrap_or_default()
            .to_owned(),
    }))?;
    let ends = Ends {
        facts,
        notifier,
        inbox,
        source,
        ready,
    };
    Ok((engine, ends))
}

/// Starts the thread that follows processes. It sets `ready` after its first scan.
fn start_watcher(
    mut watcher: Watcher,
    inbox: Inbox,
    ready: watch::Sender<bool>,
    url: Option<String>,
    stop: &Stop,
) -> Result<Thread> {
    Thread::start("watcher", stop, move || {
        watcher.scan();
        trim_memory::give_back();
        match url {
            Some(url) => tracing::info!(url, "observing"),
            None => tracing::info!("observing; press Ctrl-C to stop"),
        }
        // Nobody waits for it during shutdown.
        let _ = ready.send(true);
        watcher.run(inbox);
    })
}

/// Starts the thread that writes finished requests to standard output.
fn start_lines((filter, format): (Filter, Format), stop: &Stop) -> Result<(Outlet, Writer)> {
    let out = io::stdout().as_fd().try_clone_to_owned();
    let out = File::from(out.context("cannot write to standard output")?);
    trace::start(filter, format, out, stop.clone().on_drop())
}

/// Starts to serve HTTP.
fn start_server((listener, web): (TcpListener, Web), endpoints: Endpoints, stop: &Stop) -> Task {
    let served = server::serve(listener, web, endpoints, stop.clone().wait());
    Task::start("server", stop, async {
        served.await;
        Ok(())
    })
}

/// Starts to ask the engine for views and to hand them to the screen.
fn start_views(source: Source, screen: &Own, stop: &Stop) -> Task {
    let (followed, stopped) = (top::source::follow(source, screen.updates()), stop.clone());
    Task::start("views", stop, async move {
        followed.await;
        ensure!(
            stopped.is_set(),
            "the engine did not answer; please report it"
        );
        Ok(())
    })
}

/// Follows the pods of this node: the watcher renames masters, the engine counts.
fn follow_pods(
    cluster: Cluster,
    pods: Pods,
    ends: &Ends,
) -> impl Future<Output = Result<()>> + Send + 'static {
    let (watcher, facts) = (ends.notifier.clone(), ends.facts.clone());
    async move {
        let mut changes = pin!(cluster.changes(&pods.node, pods.directory.clone()));
        let mut errors = 0;
        while let Some(change) = changes.next().await {
            match change {
                Change::Names => watcher.notify(Seen::PodsChanged),
                Change::Failed { why, is_repeated } => {
                    errors += 1;
                    // The counter says how often; the log says it once.
                    if !is_repeated {
                        tracing::warn!(error = why, "pod names are out of date");
                    }
                }
            }
            let pods = pods.directory.len() as u64;
            let fact = Fact::Kubernetes(Kubernetes { pods, errors });
            // The engine is gone only during shutdown.
            let _ = facts.send(fact).await;
        }
        Ok(())
    }
}

fn refuse_changes() {
    if let Err(error) = privilege::refuse_changes() {
        let error = format!("{error:#}");
        tracing::warn!(error, "seccomp filter not installed, continuing without it");
    }
}
