//! Where outputs get what they show from: the engine, which is asked for it.

use observer_model::State;
use observer_model::views::live_view::View;
use observer_model::views::live_view::history::History;
use observer_model::views::metrics_view::Snapshot;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Questions that wait for the engine.
const MAX_WAITING: usize = 64;
/// The engine must have answered by then.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What an output wants to know of this moment; the engine sends it back.
#[derive(Debug)]
pub enum Ask {
    /// What `/metrics` has.
    Snapshot(oneshot::Sender<Arc<Snapshot>>),
    /// What people are shown.
    View(oneshot::Sender<Arc<View>>),
    /// What they are shown of the time since then, in seconds of Unix time.
    History {
        since_seconds: f64,
        answer: oneshot::Sender<History>,
    },
}

impl Ask {
    /// Answers from the state, which has all there is up to `now_ns`.
    pub fn answer(self, state: &State, now_ns: u64) {
        // Who asked may have gone.
        match self {
            Self::Snapshot(answer) => _ = answer.send(Arc::new(state.snapshot(now_ns))),
            Self::View(answer) => _ = answer.send(Arc::new(state.view(now_ns))),
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
    /// A source, and the questions that the engine is to answer. `ready` turns true
    /// once the probes are attached.
    #[must_use]
    pub fn new(ready: watch::Receiver<bool>) -> (Self, mpsc::Receiver<Ask>) {
        let (engine, asked) = mpsc::channel(MAX_WAITING);
        (Self { engine, ready }, asked)
    }

    /// `None` when the engine has ended or hangs; likewise of the others.
    pub async fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.ask(Ask::Snapshot).await
    }

    pub async fn view(&self) -> Option<Arc<View>> {
        self.ask(Ask::View).await
    }

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

    /// The probes are attached.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }
}
