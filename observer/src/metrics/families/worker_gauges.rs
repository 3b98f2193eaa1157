//! What live workers are, use and do now.

use crate::metrics::family::{Family, Kind, Read, Unit};
use observer_model::lifecycle::worker_state::Stage;

pub const FAMILIES: &[Family] = &[
    Family {
        name: "gunicorn_worker_uptime_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "Time since a worker process started, in seconds.",
        read: Read::Now(|now, series| series.put(now.uptime_seconds)),
    },
    Family {
        name: "gunicorn_worker_info",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["worker_slot", "worker_pid", "worker_id", "worker_class"],
        help: "Slot, PID, id and class of a worker; always 1.",
        read: Read::Master(|master, series| {
            for worker in master.named_workers() {
                let (slot, pid) = (worker.slot.to_string(), worker.pid.to_string());
                series.put_for([&slot, &pid, &worker.id, &worker.class], true);
            }
        }),
    },
    Family {
        name: "gunicorn_worker_state",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["state"],
        help: "State of a worker (booting, running, quitting or aborting): 1 for the current one.",
        read: Read::Now(|now, series| {
            for stage in Stage::ALL {
                let is_current = now.stage.map(|current| current == stage);
                series.put_for([stage.as_str()], is_current);
            }
        }),
    },
    Family {
        name: "gunicorn_worker_memory_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "Resident memory of a worker, in bytes.",
        read: Read::Now(|now, series| series.put(now.resident_bytes)),
    },
    Family {
        name: "gunicorn_worker_cpu_percent",
        kind: Kind::Gauge,
        unit: Unit::Percent,
        labels: &[],
        help: "Recent CPU usage of a worker, in percent of one processor.",
        read: Read::Now(|now, series| series.put(now.cpu_percent)),
    },
    Family {
        name: "gunicorn_worker_threads",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "Threads of a worker process.",
        read: Read::Now(|now, series| series.put(now.threads)),
    },
    Family {
        name: "gunicorn_worker_open_fds",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "Open file descriptors of a worker process.",
        read: Read::Now(|now, series| series.put(now.open_fds)),
    },
    Family {
        name: "gunicorn_worker_heartbeat_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "Time since a worker's last heartbeat, in seconds.",
        read: Read::Now(|now, series| series.put(now.heartbeat_age_seconds)),
    },
    Family {
        name: "gunicorn_worker_requests_in_flight",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "Requests in flight in a worker.",
        read: Read::Now(|now, series| series.put(now.in_flight)),
    },
    Family {
        name: "gunicorn_worker_oldest_request_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "Age of a worker's oldest request in flight, in seconds; 0 without one.",
        read: Read::Now(|now, series| series.put(now.oldest_seconds)),
    },
    Family {
        name: "gunicorn_worker_connections",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["kind"],
        help: "Open connections of a worker, by kind (http, websocket, stream or idle).",
        read: Read::Now(|now, series| {
            let Some(of) = now.connections else { return };
            let in_flight = now.in_flight.unwrap_or(0);
            for (kind, count) in [
                ("http", in_flight + u64::from(of.waiting())),
                ("websocket", of.websockets.into()),
                ("stream", of.events.into()),
                ("idle", of.idle.into()),
            ] {
                series.put_for([kind], count);
            }
        }),
    },
];
