//! `/api/v1/events`: the history first, then a view each second, as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! All clients get the same view, which is built once, and only while there is a client. A slow client
//! misses views. A stream ends before its connection must; a browser then reconnects, sends the id of
//! its last event, and gets the history since then.

use super::aside;
use crate::query::Source;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use observer_model::views::live_view::LiveView;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Time between two views.
const EVERY: Duration = Duration::from_secs(1);
/// Time until a client that lost its stream reconnects.
const RETRY: Duration = Duration::from_millis(500);
/// Header with the id of the last event, from a client that reconnects.
const LAST_EVENT_ID: &str = "last-event-id";

/// A view as JSON.
#[derive(Debug)]
struct Encoded {
    time_seconds: f64,
    json: String,
}

/// The latest view; `None` before the first one.
type Latest = Option<Arc<Encoded>>;

/// A feed for so many streams at a time, each for `lifetime`. Every stream ends with the feeder.
#[must_use]
pub fn feed(source: Source, streams: usize, lifetime: Duration) -> (Feed, Feeder) {
    let (views, latest) = watch::channel(None);
    let permits = Arc::new(Semaphore::new(streams));
    let came = Arc::new(Notify::new());
    let feed = Feed {
        source: source.clone(),
        latest,
        permits: Arc::clone(&permits),
        came: Arc::clone(&came),
        lifetime,
    };
    let feeder = Feeder {
        source,
        views,
        permits,
        streams,
        came,
    };
    (feed, feeder)
}

/// Builds the views for all clients.
#[derive(Debug)]
pub struct Feeder {
    source: Source,
    views: watch::Sender<Latest>,
    permits: Arc<Semaphore>,
    streams: usize,
    came: Arc<Notify>,
}

impl Feeder {
    /// Builds a view each second while there is a client.
    pub async fn run(self) {
        loop {
            self.came.notified().await;
            let mut every = interval_at(Instant::now() + EVERY, EVERY);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                if self.permits.available_permits() == self.streams {
                    break;
                }
                if let Some(view) = self.source.live_view().await
                    && let Some(view) = encoded(view).await
                {
                    self.views.send_replace(Some(view));
                }
            }
        }
    }
}

/// Opens the streams of clients.
#[derive(Clone, Debug)]
pub struct Feed {
    source: Source,
    latest: watch::Receiver<Latest>,
    /// One for each stream.
    permits: Arc<Semaphore>,
    /// Notified of each new client.
    came: Arc<Notify>,
    /// Lifetime of a stream.
    lifetime: Duration,
}

impl Feed {
    /// The stream of a client; `None` when there are too many, or the engine is gone.
    pub async fn listen(
        &self,
        headers: &HeaderMap,
    ) -> Option<Sse<impl Stream<Item = Result<Event, axum::Error>> + use<>>> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let since_seconds = headers
            .get(LAST_EVENT_ID)
            .and_then(|id| id.to_str().ok()?.parse::<f64>().ok())
            .filter(|seconds| seconds.is_finite())
            .unwrap_or_default();
        let mut latest = self.latest.clone();
        latest.mark_unchanged();
        let history = self.source.history(since_seconds).await?;
        let history = aside(move || {
            let event = Event::default().event("history").retry(RETRY);
            event.json_data(&history)
        });
        let history = history.await?;
        let now = encoded(self.source.live_view().await?).await;
        let now = now.map(|view| event(&view));
        self.came.notify_one();
        let listener = Listener {
            first: [now, Some(history)].into_iter().flatten().collect(),
            latest,
            until: Instant::now() + self.lifetime,
            _permit: permit,
        };
        Some(Sse::new(unfold(listener, Listener::next)))
    }
}

/// The stream of a client.
struct Listener {
    /// The first events, in reverse order.
    first: Vec<Result<Event, axum::Error>>,
    latest: watch::Receiver<Latest>,
    until: Instant,
    _permit: OwnedSemaphorePermit,
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
            let view = self.latest.borrow_and_update().clone();
            if let Some(view) = view {
                return Some((event(&view), self));
            }
        }
    }
}

async fn encoded(view: Arc<LiveView>) -> Latest {
    let time_seconds = view.time_seconds;
    let json = aside(move || serde_json::to_string(&*view)).await?;
    let json = json.inspect_err(|error| tracing::error!(%error, "failed to encode a view"));
    let json = json.ok()?;
    Some(Arc::new(Encoded { time_seconds, json }))
}

fn event(view: &Encoded) -> Result<Event, axum::Error> {
    let id = view.time_seconds.to_string();
    Ok(Event::default().event("snapshot").id(id).data(&view.json))
}
