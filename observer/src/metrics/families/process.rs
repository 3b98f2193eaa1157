//! Resources of the observer, under the names that Prometheus client libraries give them.

use crate::metrics::family::{Family, Kind, Read, Unit};

pub const FAMILIES: &[Family] = &[
    Family {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        labels: &[],
        help: "User and system CPU time of the observer, in seconds.",
        read: Read::Process(|usage, series| series.put(usage.cpu_seconds)),
    },
    Family {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "Resident memory of the observer, in bytes.",
        read: Read::Process(|usage, series| series.put(usage.resident_bytes)),
    },
    Family {
        name: "process_virtual_memory_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "Virtual memory of the observer, in bytes.",
        read: Read::Process(|usage, series| series.put(usage.virtual_bytes)),
    },
    Family {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "Start time of the observer, in seconds since the Unix epoch.",
        read: Read::Process(|usage, series| series.put(usage.start_time_seconds)),
    },
    Family {
        name: "process_open_fds",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "Open file descriptors of the observer.",
        read: Read::Process(|usage, series| series.put(usage.open_fds)),
    },
    Family {
        name: "process_max_fds",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "File descriptors that the observer may open.",
        read: Read::Process(|usage, series| series.put(usage.max_fds)),
    },
    Family {
        name: "process_threads",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "Threads of the observer.",
        read: Read::Process(|usage, series| series.put(usage.threads)),
    },
];
