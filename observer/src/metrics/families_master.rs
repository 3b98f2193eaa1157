//! What happened to a master and its workers, and who waits for it.

use super::family::Family;
use super::names::Names;
use observer_model::views::metrics_view::{AppView, Snapshot};
use std::collections::BTreeMap;

/// Families of masters: ends of workers, signals, listeners, findings.
pub fn all(snapshot: &Snapshot) -> Vec<Family> {
    let mut restarts = Family::counter(
        "gunicorn_master_worker_restart_total",
        "Workers of a master that ended, by reason.",
    );
    let mut restart_counts = Family::counter(
        "gunicorn_master_worker_restart_count_total",
        "Workers of a master that ended, each by itself, while it is shown.",
    );
    let mut timeouts = Family::counter(
        "gunicorn_worker_timeouts_total",
        "Workers that their master gave up, by where they hung.",
    );
    let mut signals = Family::counter(
        "gunicorn_master_signals_total",
        "Signals that a master was sent.",
    );
    let mut listeners = Listeners::default();
    for view in &snapshot.apps {
        let names = Names::of(view);
        // What was not seen is left out, never counted as zero.
        if !view.observed {
            continue;
        }
        for (reason, &count) in &view.ends {
            restarts.count(&names.master(&[("reason", reason)]), count);
        }
        for worker in &view.workers {
            let (Some(reason), Some(exit_kind)) = (worker.reason, worker.restart_type) else {
                continue;
            };
            let labels = names.master(&[
                ("worker_id", worker.id.as_str()),
                ("restart_type", exit_kind.as_str()),
                ("reason", reason.as_str()),
            ]);
            restart_counts.count(&labels, 1);
        }
        for timeout in &view.timeouts {
            let class = ("worker_class", &*timeout.class);
            let labels = names.master(&[class, ("stuck_in", &timeout.stuck_in)]);
            timeouts.count(&labels, timeout.count);
        }
        for (signal, &count) in &view.signals {
            signals.count(&names.master(&[("signal", signal)]), count);
        }
        if !view.ended {
            listeners.add(view, &names);
        }
    }
    let Listeners {
        backlog,
        limit,
        drops,
    } = listeners;
    vec![
        restarts,
        restart_counts,
        timeouts,
        signals,
        backlog,
        limit,
        drops,
        findings(snapshot),
    ]
}

struct Listeners {
    backlog: Family,
    limit: Family,
    drops: Family,
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            backlog: Family::gauge(
                "gunicorn_listener_backlog",
                "Connections that wait to be accepted.",
            ),
            limit: Family::gauge(
                "gunicorn_listener_backlog_limit",
                "Connections that may wait to be accepted.",
            ),
            drops: Family::counter(
                "gunicorn_listener_drops_total",
                "Connections that the kernel dropped, since it listens there.",
            ),
        }
    }
}

impl Listeners {
    fn add(&mut self, view: &AppView, names: &Names<'_>) {
        for listener in &view.listeners {
            let labels = names.master(&[("listener", listener.address.as_str())]);
            self.backlog.count(&labels, listener.backlog.into());
            self.limit.count(&labels, listener.limit.into());
            if let Some(drops) = listener.drops {
                self.drops.count(&labels, drops);
            }
        }
    }
}

fn findings(snapshot: &Snapshot) -> Family {
    let mut findings = Family::gauge(
        "gunicorn_finding",
        "1 for what an operator should know; the snapshot of the API has the evidence.",
    );
    let by_master: BTreeMap<_, _> = snapshot
        .apps
        .iter()
        .map(|view| (view.master_pid, view))
        .collect();
    for finding in &snapshot.findings {
        let Some(view) = by_master.get(&finding.master_pid) else {
            continue;
        };
        let worker = finding.worker_pid.map(|pid| pid.to_string());
        let names = Names::of(view);
        let labels = names.master(&[
            ("worker_pid", worker.as_deref().unwrap_or_default()),
            ("finding", finding.finding.as_str()),
        ]);
        findings.count(&labels, 1);
    }
    findings
}
