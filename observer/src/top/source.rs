//! Where updates come from: a running daemon, or the engine of this process.

use super::http_config::Credentials;
use super::sse;
use super::state::Update;
use crate::query::Source;
use anyhow::{Context as _, Result, anyhow, bail};
use observer_model::views::live_view::View;
use observer_model::views::live_view::history::History;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio_rustls::rustls;
use ureq::Agent;
use ureq::http::Uri;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};

/// A daemon that cannot be reached within that time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// It says something each second.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Until its probes are attached, this process is looked at that often.
const READY_EVERY: Duration = Duration::from_millis(50);
/// Time between two attempts to reach a daemon that was lost, and between two views.
const EVERY: Duration = Duration::from_secs(1);

/// A daemon to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// `http://host:port`, or with `https`.
    pub url: String,
    pub host: String,
    /// It is on this host, as far as its address tells.
    pub is_local: bool,
}

impl std::str::FromStr for Daemon {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "such as http://127.0.0.1:9918";
        let wrong = || format!("`{text}` is no address of a daemon {EXAMPLE}");
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

/// Follows a daemon.
struct Client {
    agent: Agent,
    /// The value of `Authorization`.
    authorization: Option<String>,
    url: String,
    /// Of the last view, so that the next stream goes on from there.
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
            // It is on this host, or on one that is reached as it is.
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
                    "{error}: name who signed its certificate as `ca_file` in --http-config, and \
                     the host as that certificate does in --connect"
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
                "it wants to know who asks (status {status}): name user and password in \
                 --http-config"
            ),
            503 => bail!("it has no place left for who listens, or is ending (status 503)"),
            _ => bail!("it answered with status {status} and no events; is it gunicorn-observer?"),
        }
    }

    /// Tells what a stream says until it ends. False when nobody listens any more.
    fn follow(&mut self, mut stream: Stream, tell: &Sender<Update>) -> Result<bool> {
        while let Some(event) = sse::next(&mut stream)? {
            let update = match event.name.as_str() {
                "history" => Update::History(decoded::<History>(&event.data)?),
                "snapshot" => Update::View(Arc::new(decoded::<View>(&event.data)?)),
                // Of a later version.
                _ => continue,
            };
            if !event.id.is_empty() {
                self.last_id = event.id;
            }
            if tell.send(update).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells what streams say, one after the other, until nobody listens.
    fn run(mut self, first: Stream, tell: &Sender<Update>) {
        let mut stream = Ok(first);
        let mut begun = Instant::now();
        loop {
            let followed = stream.and_then(|stream| self.follow(stream, tell));
            match followed {
                Ok(false) => return,
                // A daemon ends each stream once in a while.
                Ok(true) => {}
                Err(error) => {
                    if tell.send(Update::Lost(format!("{error:#}"))).is_err() {
                        return;
                    }
                }
            }
            std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
            begun = Instant::now();
            stream = self.open();
        }
    }
}

/// Whether certificates or the like are in the way.
fn is_of_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error
            .get_ref()
            .is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some()),
        error => matches!(error, ureq::Error::Rustls(_)),
    }
}

fn decoded<T: serde::de::DeserializeOwned>(data: &str) -> Result<T> {
    serde_json::from_str(data).context("it speaks another version; use the `top` of its version")
}

/// Follows a daemon in a thread of its own.
///
/// # Errors
/// When it does not answer now; it names the cure.
pub fn connect(daemon: &Daemon, credentials: Credentials, tell: Sender<Update>) -> Result<()> {
    let client = Client::new(daemon, credentials);
    let stream = client.open().map_err(|error| {
        anyhow!(
            "cannot connect to {}: {error:#}; is `gunicorn-observer run` there, with this address as \
             its --listen? Without --connect, `top` observes by itself",
            daemon.url
        )
    })?;
    std::thread::Builder::new()
        .name("daemon".to_owned())
        .spawn(move || client.run(stream, &tell))
        .context("cannot start a thread")?;
    Ok(())
}

/// Tells what the engine of this process says, from when the probes are attached until it or who
/// listens has ended.
pub async fn follow(source: Source, tell: Sender<Update>) {
    while !source.is_ready() {
        tokio::time::sleep(READY_EVERY).await;
    }
    let mut every = tokio::time::interval(EVERY);
    while let Some(view) = source.view().await {
        if tell.send(Update::View(view)).is_err() {
            return;
        }
        every.tick().await;
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
