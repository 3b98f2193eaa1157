//! What happened to a master and its workers, and the connections that wait for it.

use crate::metrics::family::{Family, Kind, Read, Unit};
use observer_model::fact::Listener;
use observer_model::views::metrics_view::AppView;

pub const FAMILIES: &[Family] = &[
    Family {
        name: "gunicorn_master_worker_restart_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["reason"],
        help: "Worker exits under a master, by reason.",
        read: Read::ObservedMaster(|master, series| {
            for (reason, &count) in &master.view.ends {
                series.put_for([reason], count);
            }
        }),
    },
    Family {
        name: "gunicorn_master_worker_restart_count_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["worker_id", "restart_type", "reason"],
        help: "Recent worker exits under a master, each worker by itself.",
        read: Read::ObservedMaster(|master, series| {
            for worker in &master.view.workers {
                if let (Some(reason), Some(exit_kind)) = (worker.reason, worker.restart_type) {
                    let labels = [&*worker.id, exit_kind.as_str(), reason.as_str()];
                    series.put_for(labels, true);
                }
            }
        }),
    },
    Family {
        name: "gunicorn_worker_timeouts_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["worker_class", "stuck_in"],
        help: "Worker timeouts, by the function the worker was stuck in.",
        read: Read::ObservedMaster(|master, series| {
            for timeout in &master.view.timeouts {
                series.put_for([&timeout.class, &*timeout.stuck_in], timeout.count);
            }
        }),
    },
    Family {
        name: "gunicorn_master_signals_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["signal"],
        help: "Signals sent to a master, by signal.",
        read: Read::ObservedMaster(|master, series| {
            for (signal, &count) in &master.view.signals {
                series.put_for([signal], count);
            }
        }),
    },
    Family {
        name: "gunicorn_master_exits_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["reason"],
        help: "Exits of masters, by reason.",
        read: Read::MasterExits(|exits, series| {
            for (reason, &count) in &exits.counts {
                series.put_for([reason], count);
            }
        }),
    },
    Family {
        name: "gunicorn_dirty_workers",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["role"],
        help: "Live processes of the dirty pool of a master, by role.",
        read: Read::ObservedMaster(|master, series| {
            for (role, &count) in master.view.dirty.iter().flat_map(|it| &it.live) {
                series.put_for([role], count);
            }
        }),
    },
    Family {
        name: "gunicorn_dirty_worker_exits_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["role", "reason"],
        help: "Exits of processes of the dirty pool of a master, by role and reason.",
        read: Read::ObservedMaster(|master, series| {
            for ((role, reason), &count) in master.view.dirty.iter().flat_map(|it| &it.ends) {
                series.put_for([role, reason], count);
            }
        }),
    },
    Family {
        name: "gunicorn_connections_waiting",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["stage"],
        help: "Connections that wait to be served, by stage (backlog, accepted or read).",
        read: Read::ObservedMaster(|master, series| {
            for waiting in &master.view.waiting {
                series.put_for([waiting.stage], waiting.count);
            }
        }),
    },
    Family {
        name: "gunicorn_connections_waiting_oldest_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &["stage"],
        help: "Age of the oldest connection that waits to be served, in seconds; 0 without one.",
        read: Read::ObservedMaster(|master, series| {
            for waiting in &master.view.waiting {
                series.put_for([waiting.stage], waiting.oldest_seconds);
            }
        }),
    },
    Family {
        name: "gunicorn_listener_backlog",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["listener"],
        help: "Connections waiting in the backlog of a listener.",
        read: Read::ObservedMaster(|master, series| {
            for listener in listeners(master.view) {
                series.put_for([&*listener.address], listener.backlog);
            }
        }),
    },
    Family {
        name: "gunicorn_listener_backlog_limit",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["listener"],
        help: "Connections that the backlog of a listener has room for.",
        read: Read::ObservedMaster(|master, series| {
            for listener in listeners(master.view) {
                series.put_for([&*listener.address], listener.limit);
            }
        }),
    },
    Family {
        name: "gunicorn_listener_drops_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["listener"],
        help: "Connections that the kernel dropped since the listener was opened.",
        read: Read::ObservedMaster(|master, series| {
            for listener in listeners(master.view) {
                series.put_for([&*listener.address], listener.drops);
            }
        }),
    },
    Family {
        name: "gunicorn_finding",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["worker_pid", "finding"],
        help: "Active findings; always 1.",
        read: Read::Master(|master, series| {
            for finding in master.findings() {
                let worker = finding.worker_pid.map(|pid| pid.to_string());
                let worker = worker.unwrap_or_default();
                series.put_for([&worker, finding.finding.as_str()], true);
            }
        }),
    },
];

/// The listeners of a running master.
fn listeners(view: &AppView) -> impl Iterator<Item = &Listener> {
    view.listeners.iter().filter(|_| !view.ended)
}
