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
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok()?
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
