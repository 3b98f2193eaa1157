//! The endpoints and the limits of the HTTP server. Everything is read-only.

use super::connections::{Answering, Connection, Connections, Watched};
use super::dashboard;
use crate::app_metrics::service::AppMetrics;
use crate::http::aside;
use crate::http::event_stream::{Feed, feed};
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

/// Most bytes of the head of a request.
const HEAD_BYTES: usize = 16 << 10;
/// Time for open responses once shutdown has begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a failed `accept` (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits on clients.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at a time. For one more, another one is closed: see [`super::connections`].
    connections: usize,
    /// Time for the TLS handshake; and for the head of a request, since the client connected or got its
    /// last response.
    head: Duration,
    /// Time for a client to read a response, or the sent part of a stream.
    write: Duration,
    /// Connections that may follow events; the others stay free for single requests.
    streams: usize,
    /// Lifetime of a stream, shorter than that of its connection.
    stream_lifetime: Duration,
    /// A connection accepts no new request after this time.
    lifetime: Duration,
    /// Time for the last response after that.
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

/// Why the server could not listen on an address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("address {address} is in use; stop the other process or pass --listen")]
    InUse { address: String },
    #[error("cannot listen on {address}: {source}; pass another address by --listen")]
    Other { address: String, source: io::Error },
}

/// Listens on `address` (`host:port`).
///
/// # Errors
/// [`BindError`] names the address and the fix.
pub async fn bind(address: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        let address = address.to_owned();
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address },
            _ => BindError::Other { address, source },
        }
    })
}

/// What is served.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub source: Source,
    pub label: WorkerLabel,
    /// `None` without `--app-metrics`.
    pub app_metrics: Option<AppMetrics>,
}

/// Serves until `shutdown` is done, then finishes open responses.
pub async fn serve(
    listener: TcpListener,
    web: Web,
    endpoints: Endpoints,
    shutdown: impl Future<Output = ()>,
) {
    serve_within(Limits::default(), listener, web, endpoints, shutdown).await;
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    web: Web,
    endpoints: Endpoints,
    shutdown: impl Future<Output = ()>,
) {
    let source = endpoints.source.clone();
    let (feed, feeder) = feed(source, limits.streams, limits.stream_lifetime);
    let feeding = tokio::spawn(feeder.run());
    let router = TowerToHyperService::new(router(endpoints, feed));
    let connections = Connections::new(limits.connections);
    // Dropping `open` makes all receivers finish.
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
                tracing::warn!(%error, "failed to accept a client");
                // There may be too many open files.
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
        tokio::spawn(handshake(limits, stream, guarded, closed.clone()));
    }
    // Ends every stream.
    feeding.abort();
    drop((listener, open));
    let all_ended = connections.all_ended();
    if tokio::time::timeout(DRAIN_TIMEOUT, all_ended)
        .await
        .is_err()
    {
        tracing::debug!("closed connections that were still open at shutdown");
    }
}

/// Does the TLS handshake with a client, if TLS is configured, and serves its connection.
async fn handshake(
    limits: Limits,
    stream: TcpStream,
    guarded: Guarded,
    mut closed: watch::Receiver<()>,
) {
    guarded.connection.begins();
    let Some(tls) = guarded.web.now().tls.clone() else {
        return serve_connection(limits, stream, guarded, closed).await;
    };
    let shaken = TlsAcceptor::from(tls).accept(stream);
    let connection = Arc::clone(&guarded.connection);
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limits.head, shaken) => shaken,
        () = connection.cut() => return,
        _ = closed.changed() => return,
    };
    match shaken {
        Ok(Ok(stream)) => serve_connection(limits, stream, guarded, closed).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake timed out"),
    }
}

/// Serves a connection until the client closes it, its lifetime is over, or the server shuts down.
async fn serve_connection(
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
            tracing::debug!("closed a connection: the client did not read its response");
            return;
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection failed"),
        Err(_) => tracing::debug!("closed a connection: the client was too slow"),
    }
}

/// The router of one connection, behind authentication.
#[derive(Clone)]
struct Guarded {
    web: Web,
    router: TowerToHyperService<Router>,
    connection: Arc<Connection>,
}

impl Service<Request<Incoming>> for Guarded {
    type Response = Response<AnsweringBody>;
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
            // Only from here on does the connection count as answering: a client that fails to
            // authenticate makes room as an idle one does.
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
            Ok(response.map(|body| AnsweringBody {
                body,
                _answering: answering,
            }))
        })
    }
}

/// The response to a client that is not authenticated; `None` if it is.
async fn refused(rules: &Rules, headers: &HeaderMap) -> Option<Response> {
    let users = rules.users.as_ref()?;
    match users.authenticate(headers.get(header::AUTHORIZATION)).await {
        Verdict::Accepted => None,
        Verdict::Refused => {
            let scheme = "Basic realm=\"gunicorn-observer\", charset=\"UTF-8\"";
            let scheme = [(header::WWW_AUTHENTICATE, scheme)];
            Some((StatusCode::UNAUTHORIZED, scheme, "Unauthorized\n").into_response())
        }
        Verdict::Busy => Some(unavailable()),
    }
}

/// A body; its connection counts as answering until the body is sent.
struct AnsweringBody {
    body: Body,
    _answering: Answering,
}

impl hyper::body::Body for AnsweringBody {
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

/// All paths; any other path is 404, and other methods are 405.
fn router(endpoints: Endpoints, feed: Feed) -> Router {
    let Endpoints {
        source,
        label,
        app_metrics,
    } = endpoints;
    let mut routes = dashboard::routes();
    if let Some(service) = app_metrics {
        let serve = get(move |source| own_metrics(source, service));
        routes = routes.route("/app-metrics", serve);
    }
    routes
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
    let Some(view) = source.metrics_view().await else {
        return unavailable();
    };
    match aside(move || exposition::encode(&view, label, format)).await {
        Some(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        None => failed(),
    }
}

/// The metrics that applications keep themselves.
async fn own_metrics(State(source): State<Source>, service: AppMetrics) -> Response {
    match service.exposition(&source).await {
        Some(text) => ([(header::CONTENT_TYPE, Format::Text.content_type())], text).into_response(),
        None => unavailable(),
    }
}

async fn snapshot(State(source): State<Source>) -> Response {
    let Some(view) = source.live_view().await else {
        return unavailable();
    };
    match aside(move || serde_json::to_string(&*view)).await {
        Some(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Some(Err(error)) => {
            tracing::error!(%error, "failed to encode a view");
            failed()
        }
        None => failed(),
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

fn failed() -> Response {
    let text = "failed to encode the response\n";
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
