//! Answers clients that ask for applications' own metrics.

use super::error::no_errors;
use super::reader::{self, Scrape};
use crate::process::procfs::ProcFs;
use crate::query::Source;
use observer_model::Untrusted;
use observer_model::fact::Fact;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

/// How long a client waits for those before it, and for its own answer. Reading blocks where a file
/// system does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most errors that are logged, each once.
const MAX_LOGGED: usize = 1000;
/// Of an error in the log.
const LOG_CHARS: usize = 200;

/// Reads for one client at a time.
#[derive(Clone, Debug)]
pub struct AppMetrics {
    procfs: ProcFs,
    facts: mpsc::Sender<Fact>,
    timeout: Duration,
    /// Held while files are read.
    errors: Arc<Mutex<Totals>>,
}

/// Errors so far.
#[derive(Debug)]
struct Totals {
    by_reason: BTreeMap<String, u64>,
    /// Apps and reasons that were logged.
    logged: BTreeSet<(String, &'static str)>,
}

impl AppMetrics {
    /// Sends the errors that it counts as facts.
    #[must_use]
    pub fn new(procfs: ProcFs, facts: mpsc::Sender<Fact>) -> Self {
        let totals = Totals {
            by_reason: no_errors(),
            logged: BTreeSet::new(),
        };
        Self {
            procfs,
            facts,
            timeout: ANSWER_TIMEOUT,
            errors: Arc::new(Mutex::new(totals)),
        }
    }

    /// The exposition; `None` when it takes too long.
    pub async fn exposition(&self, source: &Source) -> Option<String> {
        let answer = async {
            let totals = Arc::clone(&self.errors).lock_owned().await;
            let masters = source.running_masters().await?;
            let procfs = self.procfs.clone();
            // The lock goes along: a client that gave up must not let others in.
            let read = tokio::task::spawn_blocking(move || {
                let scrape = reader::read(&procfs, &masters);
                (scrape, totals)
            });
            let (scrape, totals) = read.await.ok()?;
            Some(self.counted(scrape, totals).await)
        };
        tokio::time::timeout(self.timeout, answer).await.ok()?
    }

    async fn counted(&self, scrape: Scrape, mut totals: OwnedMutexGuard<Totals>) -> String {
        if !scrape.errors.is_empty() {
            totals.add(&scrape);
            let errors = totals.by_reason.clone();
            // The engine is gone only during shutdown.
            let _ = self.facts.send(Fact::AppMetrics { errors }).await;
        }
        scrape.text
    }
}

impl Totals {
    fn add(&mut self, scrape: &Scrape) {
        for (app, errors) in &scrape.errors {
            for (reason, count, example) in errors.iter() {
                let reason = reason.as_str();
                *self.by_reason.entry(reason.to_owned()).or_default() += count;
                // The counter says how often; the log says it once.
                if self.logged.len() < MAX_LOGGED && self.logged.insert((app.clone(), reason)) {
                    let app = Untrusted::from(&**app).for_terminal(LOG_CHARS);
                    let example = Untrusted::from(example).for_terminal(LOG_CHARS);
                    tracing::warn!(app, reason, example, "application metrics are incomplete");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app_metrics::decode::tests::file;
    use crate::query::Ask;
    use nix::sys::stat::Mode;
    use observer_model::views::running_master::RunningMaster;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tokio::sync::watch;

    /// A process with a folder that has a good file and a broken one.
    fn host() -> tempfile::TempDir {
        let host = tempfile::tempdir().unwrap();
        let of = |path: &str| host.path().join(path);
        fs::create_dir_all(of("metrics")).unwrap();
        fs::create_dir_all(of("7")).unwrap();
        symlink(of("metrics"), of("7/root")).unwrap();
        let user = nix::unistd::geteuid();
        fs::write(of("7/status"), format!("Uid:\t0\t{user}\t0\t0\n")).unwrap();
        fs::write(of("7/environ"), "PROMETHEUS_MULTIPROC_DIR=/").unwrap();
        let hits = file(&[(r#"["hits", "hits_total", {}, ""]"#, 2.0, 0.0)]);
        fs::write(of("metrics/counter_7.db"), hits).unwrap();
        fs::write(of("metrics/counter_8.db"), [0xff; 8]).unwrap();
        host
    }

    /// An engine that knows one master.
    fn source() -> Source {
        let (_ready, is_ready) = watch::channel(true);
        let (source, mut asked) = Source::new(is_ready);
        tokio::spawn(async move {
            while let Some(ask) = asked.recv().await {
                let master = RunningMaster {
                    app: "shop".to_owned(),
                    pid: 7,
                    ..RunningMaster::default()
                };
                if let Ask::Masters(answer) = ask {
                    let _ = answer.send(vec![master]);
                }
            }
        });
        source
    }

    #[tokio::test]
    async fn errors_add_up_from_scrape_to_scrape() {
        let (host, source) = (host(), source());
        let (facts, mut sent) = mpsc::channel(8);
        let service = AppMetrics::new(ProcFs::with_clocks(host.path(), 1, 0), facts);
        for scrapes in 1..=2 {
            let text = service.exposition(&source).await.unwrap();
            assert!(text.ends_with("\nhits_total{app=\"shop\"} 2.0\n"), "{text}");
            let Some(Fact::AppMetrics { errors }) = sent.recv().await else {
                panic!("no fact");
            };
            assert_eq!((errors["malformed"], errors["owner"]), (scrapes, 0));
        }
    }

    #[tokio::test]
    async fn a_file_system_that_does_not_answer_takes_one_thread_and_no_client_waits_for_long() {
        let (host, source) = (host(), source());
        let environment = host.path().join("7/environ");
        fs::remove_file(&environment).unwrap();
        // Who opens it waits for its other end.
        nix::unistd::mkfifo(&environment, Mode::S_IRWXU).unwrap();
        let (facts, _sent) = mpsc::channel(8);
        let mut service = AppMetrics::new(ProcFs::with_clocks(host.path(), 1, 0), facts);
        service.timeout = Duration::from_millis(50);
        for _ in 0..3 {
            assert_eq!(service.exposition(&source).await, None);
        }
        fs::write(&environment, "PROMETHEUS_MULTIPROC_DIR=/").unwrap();
        fs::remove_file(&environment).unwrap();
        fs::write(&environment, "PROMETHEUS_MULTIPROC_DIR=/").unwrap();
        service.timeout = ANSWER_TIMEOUT;
        let text = service.exposition(&source).await.unwrap();
        assert!(text.contains("hits_total"), "{text}");
    }
}
