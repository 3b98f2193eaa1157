//! The observing process: the one place that knows every task.
//!
//! ```text
//! main thread ── runtime ──┬── engine  owns the state, drains the ring buffer
//!                          ├── server  HTTP; asks the engine for views
//!                          ├── pods    follows the API server (`--kubernetes`)
//!                          └── views   asks the engine for views for the screen
//! watcher thread ── follows processes, owns the programs
//! lines thread ──── writes finished requests (`trace`)
//! screen thread ─── draws (`top`)
//!
//! engine ── notices; full: dropped, counted ──> watcher ── facts; full: waits ──> engine
//! ```
//!
//! `startup` opens files and addresses and attaches the programs; `tasks` starts the tasks; `shutdown`
//! ends them. A signal stops the daemon, and so does every task that ends.

mod shutdown;
mod startup;
mod stop;
mod task;
mod tasks;

use crate::config;
use crate::gunicorn::tree::Tree;
use crate::http::server::{self, Endpoints};
use crate::http::web_config::Web;
use crate::privilege;
use crate::probe::{load, preflight, tracefs};
use crate::query::Source;
use crate::top::Appearance;
use crate::trace::Format;
use crate::trace::filter::Filter;
use anyhow::{Context as _, Result};
use observer_model::State;
use observer_model::settings::WorkerLabel;
use startup::Opened;
use std::path::Path;
use std::time::Duration;
use stop::Stop;
use tasks::Tasks;
use tokio::runtime;
use tokio::sync::watch;
use tokio::time::Instant;

/// Tasks have this long to end. The lines still to be written have half a second more: the process
/// ends within 2 s of SIGTERM.
const GRACE: Duration = Duration::from_millis(1500);

/// Threads that encode answers, check passwords and resolve names at a time: clients must not take every
/// processor from Gunicorn.
const MAX_ASIDE: usize = 4;

/// Where observations go.
#[derive(Clone, Debug, Default)]
pub struct Outputs<'a> {
    /// The address metrics are served on, and its clients.
    pub metrics: Option<&'a config::Serve>,
    /// Applications' own metrics are served at the same address.
    pub app_metrics: bool,
    /// A file that takes all input.
    pub record: Option<&'a Path>,
    /// Finished requests written to standard output.
    pub lines: Option<(Filter, Format)>,
    /// The terminal dashboard.
    pub screen: Option<Appearance>,
}

/// Observes until SIGTERM or SIGINT, until nobody reads its lines, or until the user quits its
/// screen.
///
/// # Errors
/// When the host or an option does not allow it, or a task fails.
pub fn run(observe: &config::Observe, outputs: Outputs<'_>) -> Result<()> {
    preflight::privileged()?;
    tracefs::ensure()?;
    let mut tree = Tree::of_host()?;
    let only = startup::masters(&mut tree, &observe.pids)?;
    let opened = Opened::open(&outputs)?;
    load::raise_memlock();
    // Before there are threads, which inherit what is left.
    if let Err(error) = privilege::keep_needed() {
        tracing::warn!(%error, "failed to drop capabilities");
    }
    // Each further thread would make each wake-up several.
    let runtime = runtime::Builder::new_current_thread()
        .max_blocking_threads(MAX_ASIDE)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        let mut tasks = Tasks::start(observe, outputs, opened, tree, only).await?;
        let ran = tasks.run().await;
        shutdown::end(tasks, ran, Instant::now() + GRACE).await
    });
    // Waits for no task that missed the deadline.
    runtime.shutdown_background();
    ended
}

/// Serves a state as it was at one moment, until SIGTERM or SIGINT. Needs no root.
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
        let url = startup::url(&listener, &web)?;
        tracing::info!(url, "serving a recording; press Ctrl-C to stop");
        let (_ready, is_ready) = watch::channel(true);
        let (source, mut asked) = Source::new(is_ready);
        let endpoints = Endpoints {
            source,
            label,
            app_metrics: None,
        };
        let served = server::serve(listener, web, endpoints, stop.wait());
        let answered = async {
            while let Some(ask) = asked.recv().await {
                ask.answer(&state, now_ns);
            }
        };
        tokio::join!(served, answered);
        Ok(())
    })
}
