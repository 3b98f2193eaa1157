//! Other exporters of a Gunicorn's metrics: they run inside it.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
};

use anyhow::{Context as _, Result};
use end_to_end::{gunicorn::Builder, observer::free_port, python::Python, venv::Venv};
use tempfile::TempDir;

use super::stand::App;

/// Where the applications are.
const APPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/apps");

/// OpenTelemetry's option for it (`opentelemetry.instrumentation.environment_variables`).
const PATCHED: &str = "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Gunicorn's own.
    Statsd,
    /// gunicorn-prometheus-exporter.
    Exporter,
    /// `prometheus_flask_exporter`.
    FlaskExporter,
    /// OpenTelemetry's automatic instrumentation of Python.
    OpenTelemetry,
}

impl Peer {
    pub const ALL: [Self; 4] = [
        Self::Statsd,
        Self::Exporter,
        Self::FlaskExporter,
        Self::OpenTelemetry,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Statsd => "statsd of Gunicorn",
            Self::Exporter => "gunicorn-prometheus-exporter",
            Self::FlaskExporter => "prometheus_flask_exporter",
            Self::OpenTelemetry => "OpenTelemetry",
        }
    }

    /// Whether it does anything for that application: OpenTelemetry instruments frameworks.
    pub fn is_for(self, app: App) -> bool {
        match self {
            Self::Statsd | Self::Exporter => true,
            Self::FlaskExporter => app == App::Flask,
            Self::OpenTelemetry => app != App::Raw,
        }
    }

    /// The worker class that replaces this one.
    pub fn class(self, class: &'static str) -> &'static str {
        match (self, class) {
            (Self::Exporter, "sync") => "gunicorn_prometheus_exporter.PrometheusWorker",
            (Self::Exporter, "gthread") => "gunicorn_prometheus_exporter.PrometheusThreadWorker",
            (Self::Exporter, "gevent") => "gunicorn_prometheus_exporter.PrometheusGeventWorker",
            _ => class,
        }
    }

    /// A Gunicorn with it, as its documentation says. What several processes share is in `folder`.
    pub fn builder(
        self,
        venv: &Venv,
        (app, class): (App, &str),
        folder: &TempDir,
        sinks: &Sinks,
    ) -> Result<Builder> {
        let shared = folder.path().display().to_string();
        let port = free_port()?.to_string();
        let plain = Builder::new(venv, app.module());
        Ok(match self {
            Self::Statsd => plain
                .argument("--statsd-host")
                .argument(&format!("127.0.0.1:{}", sinks.statsd_port)),
            Self::Exporter => plain
                .argument("--config")
                .argument(&format!("{APPS}/bench/exporter_conf.py"))
                .variable("PROMETHEUS_MULTIPROC_DIR", &shared)
                .variable("PROMETHEUS_METRICS_PORT", &port)
                .variable("PROMETHEUS_BIND_ADDRESS", "127.0.0.1")
                .variable("GUNICORN_WORKERS", "1"),
            Self::FlaskExporter => Builder::new(venv, "bench.flask_hello_exporter:app")
                .variable("PROMETHEUS_MULTIPROC_DIR", &shared),
            Self::OpenTelemetry => {
                let words = ["opentelemetry-instrument", "gunicorn"];
                let python = Python::from(venv).running(words.map(|word| venv.program(word)));
                let endpoint = format!("http://127.0.0.1:{}", sinks.otlp_port);
                let builder = Builder::new(python, app.module());
                let builder = match class {
                    // It imports what gevent is to replace, before Gunicorn's worker could.
                    "gevent" => builder.variable(PATCHED, "patch_all"),
                    _ => builder,
                };
                builder
                    .variable("OTEL_SERVICE_NAME", "bench")
                    .variable("OTEL_TRACES_EXPORTER", "otlp")
                    .variable("OTEL_METRICS_EXPORTER", "otlp")
                    .variable("OTEL_LOGS_EXPORTER", "none")
                    .variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
                    .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
                    // It loads Django's settings before Gunicorn says where they are.
                    .variable("DJANGO_SETTINGS_MODULE", "bench.page.settings")
                    .variable("PYTHONPATH", APPS)
            }
        })
    }
}

/// Where they send to: somebody who takes all and does nothing with it.
pub struct Sinks {
    // What nobody reads is dropped by the kernel.
    _statsd: UdpSocket,
    statsd_port: u16,
    otlp_port: u16,
}

impl Sinks {
    pub fn open() -> Result<Self> {
        let statsd = UdpSocket::bind(("127.0.0.1", 0)).context("no port for statsd")?;
        let otlp = TcpListener::bind(("127.0.0.1", 0)).context("no port for OTLP")?;
        let ports = [statsd.local_addr()?.port(), otlp.local_addr()?.port()];
        // It ends with this process.
        thread::spawn(move || {
            for connection in otlp.incoming().flatten() {
                thread::spawn(move || take_all(connection));
            }
        });
        Ok(Self {
            _statsd: statsd,
            statsd_port: ports[0],
            otlp_port: ports[1],
        })
    }
}

/// Answers every request on a connection well. An empty body is an empty protobuf message, which
/// says that all was taken.
fn take_all(mut connection: TcpStream) -> Option<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
    let mut waiting = Vec::new();
    let mut piece = [0; 65536];
    loop {
        if let Some(whole) = request_bytes(&waiting) {
            waiting.drain(..whole);
            connection.write_all(ANSWER).ok()?;
            continue;
        }
        let read = connection.read(&mut piece).ok().filter(|&read| read > 0)?;
        waiting.extend_from_slice(&piece[..read]);
    }
}

/// How long the first request among these bytes is, once it is whole.
fn request_bytes(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    (bytes.len() >= head + length).then_some(head + length)
}

#[cfg(test)]
mod tests {
    use super::request_bytes;

    #[test]
    fn a_request_is_whole_with_its_body() {
        let request = b"POST /v1/traces HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcnext";
        assert_eq!(request_bytes(request), Some(request.len() - 4));
        assert_eq!(request_bytes(&request[..request.len() - 5]), None);
        assert_eq!(request_bytes(b"GET / HTTP/1.1\r\n"), None);
    }
}
