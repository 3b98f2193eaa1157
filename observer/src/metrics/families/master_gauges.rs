//! What running masters use.

use crate::metrics::family::{Family, Kind, Read, Unit};
use crate::metrics::subjects::Master;
use observer_model::fact::MasterGauges;

pub const FAMILIES: &[Family] = &[
    Family {
        name: "gunicorn_master_memory_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "Resident memory of a master, in bytes.",
        read: Read::Master(|master, series| series.put(of(master, |it| it.resident_bytes))),
    },
    Family {
        name: "gunicorn_master_cpu_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        labels: &[],
        help: "CPU time of a master since it started, user and system, in seconds.",
        read: Read::Master(|master, series| series.put(of(master, |it| it.cpu_seconds))),
    },
    Family {
        name: "gunicorn_master_cpu_percent",
        kind: Kind::Gauge,
        unit: Unit::Percent,
        labels: &[],
        help: "Recent CPU usage of a master, in percent of one processor.",
        read: Read::Master(|master, series| series.put(master.view.cpu_percent)),
    },
    Family {
        name: "gunicorn_master_threads",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "Threads of a master.",
        read: Read::Master(|master, series| series.put(of(master, |it| it.threads))),
    },
    Family {
        name: "gunicorn_master_open_fds",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "Open file descriptors of a master.",
        read: Read::Master(|master, series| series.put(of(master, |it| it.open_fds))),
    },
    Family {
        name: "gunicorn_master_max_fds",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "Most file descriptors that a master may have open.",
        read: Read::Master(|master, series| series.put(of(master, |it| it.max_fds))),
    },
];

fn of<T>(master: &Master, value: impl FnOnce(&MasterGauges) -> T) -> Option<T> {
    master.view.gauges.as_ref().map(value)
}
