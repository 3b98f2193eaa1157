//! Findings: what they mean, what to do about them, and how urgent they are. Log, `top`, API and
//! dashboard all show these words. [`Thresholds`](crate::settings::Thresholds) set when a finding
//! begins.

use crate::event::Pid;
use crate::untrusted::Untrusted;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Kinds of findings, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    HeartbeatLate,
    WorkerStuck,
    DoesNotBoot,
    OnlyWorkerQuitting,
    OrphanedWorkers,
    RestartLoop,
    BacklogGrowing,
    ClientSilent,
    Saturated,
    MemoryGrows,
    OneWorkerBusy,
}

/// How soon somebody should act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Requests fail, or are about to.
    Critical,
    /// Requests are slow, or will be.
    Warning,
    /// Worth knowing; nothing is broken.
    Info,
}

/// A kind of finding, in words.
#[derive(Debug)]
pub struct About {
    pub kind: Kind,
    /// As it is exported.
    pub name: &'static str,
    /// A noun phrase.
    pub meaning: &'static str,
    /// An imperative.
    pub advice: &'static str,
    pub urgency: Urgency,
}

/// Every kind, in the order of [`Kind`].
pub const ALL: &[About] = &[
    About {
        kind: Kind::HeartbeatLate,
        name: "heartbeat_late",
        meaning: "A worker about to be killed: no heartbeat for most of the timeout",
        advice: "Look at the worker's stack; then shorten that work, move it out of the request, \
                 or raise --timeout.",
        urgency: Urgency::Critical,
    },
    About {
        kind: Kind::WorkerStuck,
        name: "worker_stuck",
        meaning: "A request that hangs; a sync worker serves nobody else meanwhile",
        advice: "Look at the worker's stack: it shows the line that the request is at.",
        urgency: Urgency::Critical,
    },
    About {
        kind: Kind::DoesNotBoot,
        name: "does_not_boot",
        meaning: "A worker that does not boot; its master waits for it without a timeout",
        advice: "Look at the worker's stack: it shows what the import of the application waits for.",
        urgency: Urgency::Critical,
    },
    About {
        kind: Kind::OnlyWorkerQuitting,
        name: "only_worker_quitting",
        meaning: "No worker that accepts: each one is quitting, and none is replaced before it exited",
        advice: "Look at the worker's stack: it shows what it still waits for. Run more workers, so that \
                 others serve meanwhile, or lower --graceful-timeout.",
        urgency: Urgency::Critical,
    },
    About {
        kind: Kind::OrphanedWorkers,
        name: "orphaned_workers",
        meaning: "Workers without a master: they serve on, and nobody replaces or stops them",
        advice: "Find why the master exited, stop its workers, and start Gunicorn again.",
        urgency: Urgency::Critical,
    },
    About {
        kind: Kind::RestartLoop,
        name: "restart_loop",
        meaning: "Workers that exit again and again, although nobody asked them to",
        advice: "Look at the exit reasons. oom: find a leak, or run fewer workers; boot_error: \
                 fix the import of the application; timeout: find what hangs.",
        urgency: Urgency::Critical,
    },
    About {
        kind: Kind::BacklogGrowing,
        name: "backlog_growing",
        meaning: "A growing backlog: requests arrive faster than workers serve them",
        advice: "Add workers or threads, or find what made requests slower: see the phases of the \
                 routes.",
        urgency: Urgency::Critical,
    },
    About {
        kind: Kind::ClientSilent,
        name: "client_silent",
        meaning: "A sync worker that waits for a client to send its request and serves nobody else meanwhile",
        advice: "Put a proxy that buffers requests in front of Gunicorn, or choose another worker class.",
        urgency: Urgency::Warning,
    },
    About {
        kind: Kind::Saturated,
        name: "saturated",
        meaning: "No free worker: each new request waits",
        advice: "Add workers or threads, or speed up the routes that take most of the time.",
        urgency: Urgency::Warning,
    },
    About {
        kind: Kind::MemoryGrows,
        name: "memory_grows",
        meaning: "Growing memory of a worker: a possible leak",
        advice: "Profile the worker's memory; --max-requests with --max-requests-jitter hides a \
                 leak until it is fixed.",
        urgency: Urgency::Warning,
    },
    About {
        kind: Kind::OneWorkerBusy,
        name: "one_worker_busy",
        meaning: "One worker with nearly all requests, often from a few keep-alive connections of \
                  a proxy",
        advice: "Let the proxy open more connections, or set --reuse-port.",
        urgency: Urgency::Info,
    },
];

impl Kind {
    /// The kind, in words.
    #[must_use]
    pub fn about(self) -> &'static About {
        &ALL[self as usize]
    }

    /// As it is exported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.about().name
    }
}

impl Urgency {
    /// As it is exported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// A finding about an app or one of its workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub finding: Kind,
    pub meaning: Cow<'static, str>,
    pub advice: Cow<'static, str>,
    pub urgency: Urgency,
    pub app: Untrusted,
    pub master_pid: Pid,
    /// `None` for a finding about the whole app.
    pub worker_pid: Option<Pid>,
    /// Unix time at which the finding began.
    pub since_seconds: f64,
    /// The figures that led to it, as a sentence.
    pub evidence: Untrusted,
}

impl Finding {
    /// A finding with the words of its kind, about nobody yet.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let about = kind.about();
        Self {
            finding: kind,
            meaning: about.meaning.into(),
            advice: about.advice.into(),
            urgency: about.urgency,
            app: Untrusted::default(),
            master_pid: 0,
            worker_pid: None,
            since_seconds: 0.0,
            evidence: Untrusted::default(),
        }
    }
}

/// A number of bytes for people.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..10_240 => write!(f, "{bytes} bytes"),
            bytes @ 10_240..10_485_760 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{} MiB", bytes >> 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_kind_at_its_place_and_the_most_urgent_first() {
        for (index, about) in ALL.iter().enumerate() {
            assert_eq!(about.kind as usize, index);
            let json = serde_json::to_string(&about.kind).unwrap();
            assert_eq!(json, format!("\"{}\"", about.name));
        }
        assert!(ALL.is_sorted_by_key(|about| about.urgency));
    }

    #[test]
    fn a_meaning_is_a_noun_phrase_and_advice_is_a_sentence() {
        for about in ALL {
            assert!(!about.meaning.ends_with('.'), "{}", about.name);
            assert!(about.advice.ends_with('.'), "{}", about.name);
        }
    }

    /// The table of docs/METRICS.md.
    #[test]
    fn the_documentation_has_each_finding_with_its_words() {
        let docs = include_str!("../../../../docs/METRICS.md");
        for about in ALL {
            let urgency = about.urgency.as_str();
            let About {
                name,
                meaning,
                advice,
                ..
            } = about;
            let row = format!("| `{name}` | {urgency} | {meaning} | {advice} |");
            assert!(docs.contains(&row), "docs/METRICS.md lacks: {row}");
        }
    }

    #[test]
    fn bytes_are_shown_in_a_unit_that_fits() {
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!(text(512), "512 bytes");
        assert_eq!(text(20 << 10), "20 KiB");
        assert_eq!(text(50 << 20), "50 MiB");
    }
}
