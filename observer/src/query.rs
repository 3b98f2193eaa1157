//! How outputs ask the engine for views.

use observer_model::State;
use observer_model::views::live_view::LiveView;
use observer_model::views::live_view::history::History;
use observer_model::views::metrics_view::MetricsView;
use observer_model::views::running_master::RunningMaster;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that wait for the engine; then more of them wait to be sent.
const MAX_WAITING: usize = 64;
/// How long an output waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A request for a view of this moment; the engine sends it back.
#[derive(Debug)]
pub enum Ask {
    /// For `/metrics`.
    Metrics(oneshot::Sender<Arc<MetricsView>>),
    /// For the API, the dashboard and `top`.
    Live(oneshot::Sender<Arc<LiveView>>),
    /// The processes of running masters.
    Masters(oneshot::Sender<Vec<RunningMaster>>),
    /// The history since a Unix time.
    History {
        since_seconds: f64,
        answer: oneshot::Sender<History>,
    },
}

impl Ask {
    /// Answers from the state, which has all there is up to `now_ns`.
    pub fn answer(self, state: &State, now_ns: u64) {
        // The output may have stopped waiting.
        match self {
            Self::Metrics(answer) => _ = answer.send(Arc::new(state.metrics_view(now_ns))),
            Self::Live(answer) => _ = answer.send(Arc::new(state.live_view(now_ns))),
            Self::Masters(answer) => _ = answer.send(state.running_masters()),
            Self::History {
                since_seconds,
                answer,
            } => _ = answer.send(state.history(now_ns, since_seconds)),
        }
    }
}

/// Asks the engine.
#[derive(Clone, Debug)]
pub struct Source {
    engine: mpsc::Sender<Ask>,
    ready: watch::Receiver<bool>,
}

impl Source {
    /// A source, and the engine's end of it. `ready` turns true once the probes are attached.
    #[must_use]
    pub fn new(ready: watch::Receiver<bool>) -> (Self, mpsc::Receiver<Ask>) {
        let (engine, asked) = mpsc::channel(MAX_WAITING);
        (Self { engine, ready }, asked)
    }

    /// The view for `/metrics`; `None` when the engine has ended or hangs.
    pub async fn metrics_view(&self) -> Option<Arc<MetricsView>> {
        self.ask(Ask::Metrics).await
    }

    /// The view for the dashboard; `None` when the engine has ended or hangs.
    pub async fn live_view(&self) -> Option<Arc<LiveView>> {
        self.ask(Ask::Live).await
    }

    /// The processes of running masters; `None` when the engine has ended or hangs.
    pub async fn running_masters(&self) -> Option<Vec<RunningMaster>> {
        self.ask(Ask::Masters).await
    }

    /// The history since a Unix time; `None` when the engine has ended or hangs.
    pub async fn history(&self, since_seconds: f64) -> Option<History> {
        let of = |answer| Ask::History {
            since_seconds,
            answer,
        };
        self.ask(of).await
    }

    async fn ask<T>(&self, of: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let ask = async {
            self.engine.send(of(answer)).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(ANSWER_TIMEOUT, ask)
            .await
            .ok()
            .flatten()
    }

    /// Whether the probes are attached.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }
}
