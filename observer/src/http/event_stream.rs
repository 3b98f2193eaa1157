//! `/api/v1/events`: the history first, then a view each second, as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! All who listen get the same view, which is made once, and only while somebody listens. Who reads
//! slowly misses some. A stream ends before its connection's time is up; a browser comes again by
//! itself, says which event it got last, and gets what is later than that.

use crate::query::Source;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use observer_model::views::live_view::View;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior};

/// Time between two views.
const EVERY: Duration = Duration::from_secs(1);
/// A client that lost its stream waits that long before it comes again.
const RETRY: Duration = Duration::from_millis(500);
/// Who came last wrote so.
const LAST_EVENT_ID: &str = "last-event-id";

/// What is told to all who listen.
#[derive(Clone, Debug)]
pub struct Feed {
    source: Source,
    latest: watch::Sender<Option<Arc<Told>>>,
    /// Of those who listen.
    places: Arc<Semaphore>,
    /// Time of a stream.
    lifetime: Duration,
}

/// A view as it is sent.
#[derive(Debug)]
struct Told {
    time_seconds: f64,
    json: String,
}

impl Feed {
    /// For so many who listen at a time, each for `lifetime`.
    #[must_use]
    pub fn new(source: Source, listeners: usize, lifetime: Duration) -> Self {
        Self {
            source,
            latest: watch::Sender::new(None),
            places: Arc::new(Semaphore::new(listeners)),
            lifetime,
        }
    }

    /// Asks for views as long as somebody listens. Ends when nobody can any more.
    pub async fn run(self) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            if self.latest.receiver_count() > 0
                && let Some(view) = self.source.view().await
            {
                self.latest.send_replace(told(&view));
            }
        }
    }

    /// The stream of one who listens; `None` when there is no place left, or the engine is gone.
    pub async fn listen(
        &self,
        headers: &HeaderMap,
    ) -> Option<Sse<impl Stream<Item = Result<Event, axum::Error>> + use<>>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let since_seconds = headers
            .get(LAST_EVENT_ID)
            .and_then(|id| id.to_str().ok()?.parse::<f64>().ok())
            .filter(|seconds| seconds.is_finite())
            .unwrap_or_default();
        let latest = self.latest.subscribe();
        let history = self.source.history(since_seconds).await?;
        let history = Event::default()
            .event("history")
            .retry(RETRY)
            .json_data(&history);
        let now = told(&*self.source.view().await?).map(|told| sent(&told));
        let listener = Listener {
            first: [now, Some(history)].into_iter().flatten().collect(),
            latest,
            until: Instant::now() + self.lifetime,
            _place: place,
        };
        Some(Sse::new(unfold(listener, Listener::next)))
    }
}

/// Who listens.
struct Listener {
    /// What it gets first, the last of it in the beginning.
    first: Vec<Result<Event, axum::Error>>,
    latest: watch::Receiver<Option<Arc<Told>>>,
    until: Instant,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    async fn next(mut self) -> Option<(Result<Event, axum::Error>, Self)> {
        if let Some(first) = self.first.pop() {
            return Some((first, self));
        }
        loop {
            tokio::time::timeout_at(self.until, self.latest.changed())
                .await
                .ok()?
                .ok()?;
            let told = self.latest.borrow_and_update().clone();
            if let Some(told) = told {
                return Some((sent(&told), self));
            }
        }
    }
}

fn told(view: &View) -> Option<Arc<Told>> {
    let time_seconds = view.time_seconds;
    match serde_json::to_string(view) {
        Ok(json) => Some(Arc::new(Told { time_seconds, json })),
        Err(error) => {
            tracing::error!(%error, "a view could not be encoded");
            None
        }
    }
}

fn sent(told: &Told) -> Result<Event, axum::Error> {
    let id = told.time_seconds.to_string();
    Ok(Event::default().event("snapshot").id(id).data(&told.json))
}
