//! Sources of updates: a running daemon, or the engine of this process.

use super::http_config::Credentials;
use super::sse;
use super::state::Update;
use crate::query::Source;
use anyhow::{Context as _, Result, anyhow, bail};
use observer_model::views::live_view::LiveView;
use observer_model::views::live_view::history::History;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};
use tokio_rustls::rustls;
use ureq::Agent;
use ureq::http::Uri;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};

/// Time to connect to a daemon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the next data of a daemon, which sends some each second.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two checks whether the probes are attached, and whether a full screen has room.
const READY_EVERY: Duration = Duration::from_millis(50);
/// Time between two attempts to reconnect, and between two views.
const EVERY: Duration = Duration::from_secs(1);

/// A daemon to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// `http://host:port`, or with `https`.
    pub url: String,
    pub host: String,
    /// Its address is of this host.
    pub is_local: bool,
}

impl std::str::FromStr for Daemon {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid URL `{text}`, expected one such as http://127.0.0.1:9918");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong());
        }
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(wrong)?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>();
        Ok(Self {
            url: text.trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            is_local: bare == "localhost" || address.is_ok_and(|it| it.is_loopback()),
        })
    }
}

/// A stream of events.
type Stream = Box<dyn BufRead + Send>;

/// A client of a daemon.
struct Client {
    agent: Agent,
    /// The value of `Authorization`.
    authorization: Option<String>,
    url: String,
    /// Id of the last view: the next stream continues from there.
    last_id: String,
}

impl Client {
    fn new(daemon: &Daemon, credentials: Credentials) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The daemon is reached directly.
            .proxy(None)
            .tls_config(credentials.tls)
            .build();
        Self {
            agent: config.new_agent(),
            authorization: credentials.authorization,
            url: format!("{}/api/v1/events", daemon.url),
            last_id: String::new(),
        }
    }

    fn open(&self) -> Result<Stream> {
        let mut request = self
            .agent
            .get(&self.url)
            .header(ACCEPT, "text/event-stream");
        if !self.last_id.is_empty() {
            request = request.header("Last-Event-ID", &self.last_id);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.call().map_err(|error| {
            if is_of_tls(&error) {
                return anyhow!(
                    "{error}; set `ca_file` in --http-config to the CA of its certificate, and use \
                     the host name of the certificate in --connect"
                );
            }
            error.into()
        })?;
        let status = response.status().as_u16();
        let kind = response.headers().get(CONTENT_TYPE);
        let is_events = kind.is_some_and(|it| it.as_bytes().starts_with(b"text/event-stream"));
        match status {
            200 if is_events => {
                let reader = response.into_body().into_reader();
                Ok(Box::new(BufReader::new(reader)))
            }
            401 | 403 => bail!(
                "authentication required (HTTP {status}); set user and password in --http-config"
            ),
            503 => bail!("it has too many clients, or is shutting down (HTTP 503); try again"),
            _ => bail!("it sent no events (HTTP {status}); is it gunicorn-observer?"),
        }
    }

    /// Passes on a stream until it ends. False when the receiver is gone.
    fn follow(&mut self, mut stream: Stream, updates: &SyncSender<Update>) -> Result<bool> {
        while let Some(event) = sse::next(&mut stream)? {
            let update = match event.name.as_str() {
                "history" => Update::History(decoded::<History>(&event.data)?),
                "snapshot" => Update::View(Arc::new(decoded::<LiveView>(&event.data)?)),
                // An event of a later version.
                _ => continue,
            };
            if !event.id.is_empty() {
                self.last_id = event.id;
            }
            if updates.send(update).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Passes on one stream after the other, begun with a pause between them, until the receiver is
    /// gone.
    fn run(mut self, first: Stream, pause: Duration, updates: &SyncSender<Update>) {
        let mut stream = Ok(first);
        let mut begun = Instant::now();
        loop {
            let followed = stream.and_then(|stream| self.follow(stream, updates));
            match followed {
                Ok(false) => return,
                // A daemon ends each stream after a while.
                Ok(true) => {}
                Err(error) => {
                    if updates.send(Update::Lost(format!("{error:#}"))).is_err() {
                        return;
                    }
                }
            }
            std::thread::sleep(pause.saturating_sub(begun.elapsed()));
            begun = Instant::now();
            stream = self.open();
        }
    }
}

/// Whether TLS failed.
fn is_of_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error
            .get_ref()
            .is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some()),
        error => matches!(error, ureq::Error::Rustls(_)),
    }
}

fn decoded<T: serde::de::DeserializeOwned>(data: &str) -> Result<T> {
    serde_json::from_str(data).context("it has another version; use the `top` of that version")
}

/// Follows a daemon in a thread of its own.
///
/// # Errors
/// When it does not answer now; the error names the fix.
pub fn connect(
    daemon: &Daemon,
    credentials: Credentials,
    updates: SyncSender<Update>,
) -> Result<()> {
    connect_every(EVERY, daemon, credentials, updates)
}

fn connect_every(
    pause: Duration,
    daemon: &Daemon,
    credentials: Credentials,
    updates: SyncSender<Update>,
) -> Result<()> {
    let client = Client::new(daemon, credentials);
    let stream = client.open().map_err(|error| {
        anyhow!(
            "cannot connect to {}: {error:#}; start `gunicorn-observer run` with --listen at this \
             address, or leave out --connect to use own probes",
            daemon.url
        )
    })?;
    std::thread::Builder::new()
        .name("daemon".to_owned())
        .spawn(move || client.run(stream, pause, &updates))
        .context("failed to start a thread")?;
    Ok(())
}

/// Passes on views of the engine of this process, from when the probes are attached until the engine
/// or the receiver is gone.
pub async fn follow(source: Source, updates: SyncSender<Update>) {
    while !source.is_ready() {
        tokio::time::sleep(READY_EVERY).await;
    }
    let mut every = tokio::time::interval(EVERY);
    while let Some(view) = source.live_view().await {
        if !hand_over(view, &updates).await {
            return;
        }
        every.tick().await;
    }
}

/// Hands a view to the screen once there is room, without holding a thread of the runtime meanwhile.
/// False when nobody listens any more.
async fn hand_over(view: Arc<LiveView>, updates: &SyncSender<Update>) -> bool {
    let mut update = Update::View(view);
    loop {
        match updates.try_send(update) {
            Ok(()) => return true,
            Err(TrySendError::Full(refused)) => update = refused,
            Err(TrySendError::Disconnected(_)) => return false,
        }
        tokio::time::sleep(READY_EVERY).await;
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
