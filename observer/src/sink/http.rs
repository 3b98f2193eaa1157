//! What is served over HTTP. Nothing is writable.

use super::dashboard;
use super::feed::Feed;
use super::prometheus::{self, Format, WorkerLabel};
use super::source::Source;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// A client must have sent the head of its request by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Responses under way may take that long once shutdown has begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failed `accept` (too many open files), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much of the server one client can take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at a time; the next ones wait in the listener's backlog.
    connections: u32,
    /// Those of them that may follow events: the others are for who asks once.
    streams: usize,
    /// Time of such a stream, less than that of its connection.
    stream_lifetime: Duration,
    /// A connection takes no new request after that time.
    lifetime: Duration,
    /// Then its last response must be taken by then, however slowly it is read.
    last_response: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            streams: 32,
            stream_lifetime: Duration::from_secs(50),
            lifetime: Duration::from_secs(60),
            last_response: Duration::from_secs(10),
        }
    }
}

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "{address} is in use already: another gunicorn-observer runs here, or another program; \
         stop it, or choose another address with --listen"
    )]
    InUse { address: String },
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Other { address: String, source: io::Error },
}

/// Listens on `address` (`host:port`).
///
/// # Errors
/// [`BindError`] names the address and the cure.
pub async fn bind(address: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        let address = address.to_owned();
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address },
            _ => BindError::Other { address, source },
        }
    })
}

/// Serves until `shutdown` is done, then lets responses under way end.
pub async fn serve(
    listener: TcpListener,
    source: Source,
    label: WorkerLabel,
    shutdown: impl Future<Output = ()>,
) {
    serve_within(Limits::default(), listener, source, label, shutdown).await;
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    source: Source,
    label: WorkerLabel,
    shutdown: impl Future<Output = ()>,
) {
    let feed = Feed::new(source.clone(), limits.streams, limits.stream_lifetime);
    let feeding = tokio::spawn(feed.clone().run());
    let service = TowerToHyperService::new(router(source, feed, label));
    let permits = usize::try_from(limits.connections).unwrap_or(Semaphore::MAX_PERMITS);
    let connections = Arc::new(Semaphore::new(permits));
    // Its receivers learn of the end by the sender's being dropped.
    let (open, closed) = watch::channel(());
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        let stream = match accepted {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a client could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (service, closed) = (service.clone(), closed.clone());
        tokio::spawn(async move {
            converse(limits, stream, service, closed).await;
            drop(permit);
        });
    }
    feeding.abort();
    drop((listener, open));
    let all_ended = connections.acquire_many(limits.connections);
    if tokio::time::timeout(DRAIN_TIMEOUT, all_ended)
        .await
        .is_err()
    {
        tracing::debug!("connections were cut off at the end");
    }
}

/// Answers one client, until it goes, its time is up, or the server ends.
async fn converse(
    limits: Limits,
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    mut closed: watch::Receiver<()>,
) {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = tokio::time::sleep(limits.lifetime) => Err(()),
        _ = closed.changed() => Err(()),
    };
    let ended = match ended {
        Ok(ended) => Ok(ended),
        Err(()) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(limits.last_response, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection failed"),
        Err(_) => tracing::debug!("a client that was too slow was cut off"),
    }
}

/// All paths; anything else is 404, and other methods are 405.
fn router(source: Source, feed: Feed, label: WorkerLabel) -> Router {
    dashboard::routes()
        .route(
            "/metrics",
            get(move |source, headers| metrics(source, headers, label)),
        )
        .route("/api/v1/snapshot", get(snapshot))
        .route("/api/v1/events", get(move |headers| events(feed, headers)))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(source)
}

async fn metrics(State(source): State<Source>, headers: HeaderMap, label: WorkerLabel) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let Some(snapshot) = source.snapshot().await else {
        return unavailable();
    };
    match prometheus::encode(&snapshot, label, format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => failed(&error),
    }
}

async fn snapshot(State(source): State<Source>) -> Response {
    let Some(view) = source.view().await else {
        return unavailable();
    };
    match serde_json::to_string(&*view) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => failed(&error),
    }
}

async fn events(feed: Feed, headers: HeaderMap) -> Response {
    match feed.listen(&headers).await {
        Some(stream) => stream.into_response(),
        None => unavailable(),
    }
}

async fn readyz(State(source): State<Source>) -> Response {
    if source.is_ready() {
        "ok\n".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "probes are not attached yet\n",
        )
            .into_response()
    }
}

fn unavailable() -> Response {
    let text = "the observer is starting, stopping or overloaded; try again\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

fn failed(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "a snapshot could not be encoded");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "the snapshot could not be encoded\n",
    )
        .into_response()
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
