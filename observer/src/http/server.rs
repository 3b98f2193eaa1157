//! What is served over HTTP. Nothing is writable.

use super::connections::{Answering, Connection, Connections, Watched};
use super::dashboard;
use crate::http::event_stream::Feed;
use crate::http::web_config::users::Verdict;
use crate::http::web_config::{Rules, Web};
use crate::metrics::exposition;
use crate::metrics::exposition::Format;
use crate::query::Source;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use observer_model::settings::WorkerLabel;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Bytes of the head of a request.
const HEAD_BYTES: usize = 16 << 10;
/// Responses under way may take that long once shutdown has begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failed `accept` (too many open files), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much of the server one client can take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at a time. For one more, one has to go: see [`super::connections`].
    connections: usize,
    /// A client must have shaken hands by then, and again have sent the head of a request by then
    /// after it came or got its last answer.
    head: Duration,
    /// It must have taken an answer by then, or of a stream what it was sent.
    write: Duration,
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
            head: Duration::from_secs(10),
            write: Duration::from_secs(30),
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
    web: Web,
    source: Source,
    label: WorkerLabel,
    shutdown: impl Future<Output = ()>,
) {
    serve_within(Limits::default(), listener, web, source, label, shutdown).await;
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    web: Web,
    source: Source,
    label: WorkerLabel,
    shutdown: impl Future<Output = ()>,
) {
    let feed = Feed::new(source.clone(), limits.streams, limits.stream_lifetime);
    let feeding = tokio::spawn(feed.clone().run());
    let router = TowerToHyperService::new(router(source, feed, label));
    let connections = Connections::new(limits.connections);
    // Its receivers learn of the end by the sender's being dropped.
    let (open, closed) = watch::channel(());
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            let (stream, peer) = listener.accept().await?;
            Ok::<_, io::Error>((stream, connections.admit(peer.ip()).await))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        let (stream, connection) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a client could not be accepted");
                // It may be for want of files.
                let _ = connections.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let guarded = Guarded {
            web: web.clone(),
            router: router.clone(),
            connection: Arc::new(connection),
        };
        tokio::spawn(greet(limits, stream, guarded, closed.clone()));
    }
    feeding.abort();
    drop((listener, open));
    let all_ended = connections.all_ended();
    if tokio::time::timeout(DRAIN_TIMEOUT, all_ended)
        .await
        .is_err()
    {
        tracing::debug!("connections were cut off at the end");
    }
}

/// Shakes hands with one client, if that is asked for, and converses with it.
async fn greet(
    limits: Limits,
    stream: TcpStream,
    guarded: Guarded,
    mut closed: watch::Receiver<()>,
) {
    guarded.connection.begins();
    let Some(tls) = guarded.web.now().tls.clone() else {
        return converse(limits, stream, guarded, closed).await;
    };
    let shaken = TlsAcceptor::from(tls).accept(stream);
    let connection = Arc::clone(&guarded.connection);
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limits.head, shaken) => shaken,
        () = connection.cut() => return,
        _ = closed.changed() => return,
    };
    match shaken {
        Ok(Ok(stream)) => converse(limits, stream, guarded, closed).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS was agreed on with a client"),
        Err(_) => tracing::debug!("a client did not shake hands in time"),
    }
}

/// Answers one client, until it goes, its time is up, or the server ends.
async fn converse(
    limits: Limits,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    guarded: Guarded,
    mut closed: watch::Receiver<()>,
) {
    let connection = Arc::clone(&guarded.connection);
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES);
    let stream = Watched::new(stream, Arc::clone(&connection));
    let conversation = async {
        let mut talk = pin!(server.serve_connection(TokioIo::new(stream), guarded));
        let ended = tokio::select! {
            ended = talk.as_mut() => Ok(ended),
            () = tokio::time::sleep(limits.lifetime) => Err(()),
            _ = closed.changed() => Err(()),
        };
        match ended {
            Ok(ended) => Ok(ended),
            Err(()) => {
                talk.as_mut().graceful_shutdown();
                tokio::time::timeout(limits.last_response, talk).await
            }
        }
    };
    let ended = tokio::select! {
        ended = conversation => ended,
        () = connection.cut() => return,
        () = connection.blocked_for(limits.write) => {
            tracing::debug!("a client that did not take its answer was cut off");
            return;
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection failed"),
        Err(_) => tracing::debug!("a client that was too slow was cut off"),
    }
}

/// What is served, to those on one connection who may have it.
#[derive(Clone)]
struct Guarded {
    web: Web,
    router: TowerToHyperService<Router>,
    connection: Arc<Connection>,
}

impl Service<Request<Incoming>> for Guarded {
    type Response = Response<Told>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Self {
            web,
            router,
            connection,
        } = self.clone();
        Box::pin(async move {
            let rules = web.now();
            let refused = refused(&rules, request.headers()).await;
            // Who may not ask is to make room as who asks nothing.
            let answering = connection.answering();
            let mut response = match refused {
                Some(response) => response,
                None => router.call(request).await?,
            };
            if connection.is_crowded() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            for (name, value) in &rules.headers {
                response.headers_mut().insert(name, value.clone());
            }
            Ok(response.map(|body| Told {
                body,
                _answering: answering,
            }))
        })
    }
}

/// What who may not ask is answered.
async fn refused(rules: &Rules, headers: &HeaderMap) -> Option<Response> {
    let users = rules.users.as_ref()?;
    match users.admit(headers.get(header::AUTHORIZATION)).await {
        Verdict::Welcome => None,
        Verdict::Refused => {
            let scheme = "Basic realm=\"gunicorn-observer\", charset=\"UTF-8\"";
            let scheme = [(header::WWW_AUTHENTICATE, scheme)];
            Some((StatusCode::UNAUTHORIZED, scheme, "Unauthorized\n").into_response())
        }
        Verdict::Busy => Some(unavailable()),
    }
}

/// A body, and that it is not sent yet.
struct Told {
    body: Body,
    _answering: Answering,
}

impl hyper::body::Body for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
    match exposition::encode(&snapshot, label, format) {
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
#[path = "server_tests.rs"]
mod tests;
