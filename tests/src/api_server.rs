//! The API server of a cluster, played from a recording (`tests/fixtures/kubernetes`).

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

/// A request and its answer.
#[derive(Clone, Debug, Deserialize)]
struct Exchange {
    path: String,
    status: u16,
    content_type: String,
    /// The pieces of the answer.
    pieces: Vec<String>,
}

impl Exchange {
    fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }
}

/// Plays a recording of an API server: each recorded request gets its recorded answer, the last one
/// again and again. Changes are sent when the test allows it.
pub struct ApiServer {
    shared: Arc<Shared>,
    port: u16,
    folder: TempDir,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    exchanges: Mutex<VecDeque<Exchange>>,
    progress: Mutex<Progress>,
    may_send: Condvar,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Progress {
    /// Pieces of watches.
    may_be_sent: usize,
    failures: Vec<String>,
}

/// The node whose pods were requested.
pub const NODE: &str = "node-1";

impl ApiServer {
    /// Plays the list of the pods of [`NODE`], and later changes.
    pub fn play_node() -> Result<Self> {
        Self::play("node.jsonl")
    }

    /// Plays a refusal of that list.
    pub fn play_denied() -> Result<Self> {
        Self::play("denied.jsonl")
    }

    /// Plays this recording.
    fn play(recording: &str) -> Result<Self> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/kubernetes");
        let recording = Path::new(folder).join(recording);
        let text = fs::read_to_string(&recording)
            .with_context(|| format!("cannot read {}", recording.display()))?;
        let exchanges = text.lines().map(serde_json::from_str);
        let exchanges = exchanges
            .collect::<Result<_, _>>()
            .context("no recording")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            exchanges: Mutex::new(exchanges),
            progress: Mutex::default(),
            may_send: Condvar::new(),
            is_over: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let listening = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if of_thread.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&of_thread);
                thread::spawn(move || {
                    if let Err(error) = shared.answer(client) {
                        shared.fail(format!("{error:#}"));
                    }
                });
            }
        });
        Ok(Self {
            shared,
            port,
            folder: TempDir::new().context("cannot make a folder for a configuration")?,
            listening: Some(listening),
        })
    }

    /// The file for `KUBECONFIG`.
    pub fn config(&self) -> Result<std::path::PathBuf> {
        let path = self.folder.path().join("config");
        let mut text = "apiVersion: v1\nkind: Config\ncurrent-context: it\n".to_owned();
        let server = format!("http://127.0.0.1:{}", self.port);
        writeln!(
            text,
            "clusters: [{{name: it, cluster: {{server: '{server}'}}}}]"
        )?;
        writeln!(text, "users: [{{name: it, user: {{token: secret}}}}]")?;
        writeln!(
            text,
            "contexts: [{{name: it, context: {{cluster: it, user: it}}}}]"
        )?;
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Uid of the first listed pod whose name begins like this.
    pub fn uid(&self, name: &str) -> Result<&'static str> {
        let list = self.shared.recorded_first()?;
        let items = list["items"].as_array().context("no pods")?;
        let is_it = |pod: &&Value| {
            let of = pod["metadata"]["name"].as_str();
            of.is_some_and(|of| of.starts_with(name))
        };
        let pod = items
            .iter()
            .find(is_it)
            .with_context(|| format!("no pod {name}"))?;
        let uid = pod["metadata"]["uid"].as_str().context("no uid")?;
        // As long as the tests run.
        Ok(Box::leak(uid.to_owned().into_boxed_str()))
    }

    /// Lets watches send this many more pieces.
    pub fn go_on(&self, pieces: usize) {
        self.shared.progress().may_be_sent += pieces;
        self.shared.may_send.notify_all();
    }

    /// Fails if a request was not in the recording.
    pub fn check(&self) -> Result<()> {
        let failures = &self.shared.progress().failures;
        ensure!(failures.is_empty(), "{failures:?}");
        Ok(())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.go_on(usize::MAX / 2);
        // It waits for somebody to come.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, why: String) {
        if !self.is_over.load(Ordering::Relaxed) {
            self.progress().failures.push(why);
        }
    }

    /// The requests of one connection.
    fn answer(&self, mut client: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut is_known = false;
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                is_known |= header
                    .trim_end()
                    .eq_ignore_ascii_case("authorization: bearer secret");
                if header.trim_end().is_empty() {
                    break;
                }
            }
            ensure!(is_known, "a request without the token: {line}");
            let path = line.split(' ').nth(1).context("no path")?;
            let exchange = self.recorded(path)?;
            write!(
                client,
                "HTTP/1.1 {} recorded\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
                exchange.status, exchange.content_type
            )?;
            for piece in &exchange.pieces {
                if exchange.is_watch() && !self.wait() {
                    return Ok(());
                }
                write!(client, "{:x}\r\n{piece}\r\n", piece.len())?;
            }
            // A watch goes on, until the end of all.
            while exchange.is_watch() {
                if !self.wait() {
                    return Ok(());
                }
            }
            write!(client, "0\r\n\r\n")?;
        }
    }

    fn recorded_first(&self) -> Result<Value> {
        let exchanges = self
            .exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let first = exchanges.front().context("nothing was recorded")?;
        Ok(serde_json::from_str(&first.pieces.concat())?)
    }

    /// The next exchange, which must be of this path; the last one again once all were played.
    fn recorded(&self, path: &str) -> Result<Exchange> {
        let mut exchanges = self
            .exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(next) = exchanges.front().cloned() else {
            bail!("nothing was recorded");
        };
        ensure!(
            next.path == path,
            "{path} was asked, but recorded was {}",
            next.path
        );
        if exchanges.len() > 1 {
            exchanges.pop_front();
        }
        Ok(next)
    }

    /// Waits until the next piece may be sent; false once the server stops.
    fn wait(&self) -> bool {
        let mut progress = self.progress();
        while progress.may_be_sent == 0 {
            progress = self
                .may_send
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
        progress.may_be_sent -= 1;
        !self.is_over.load(Ordering::Relaxed)
    }
}
