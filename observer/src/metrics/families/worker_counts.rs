//! Counts of a worker, a slot or a worker class, as `--worker-label` says.

use crate::metrics::family::{Family, Kind, Read, Unit};
use crate::metrics::series::Series;
use observer_model::counters::histogram::Histogram;
use observer_model::counters::streams::StreamCounts;
use observer_model::counters::worker_counters::Counters;
use observer_model::duration::seconds;
use observer_model::views::metrics_view::ErrorView;

pub const FAMILIES: &[Family] = &[
    Family {
        name: "gunicorn_worker_requests_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &[],
        help: "Requests handled by a worker.",
        read: Read::Counts(|of, series| series.put(of.counters.requests)),
    },
    Family {
        name: "gunicorn_worker_request_duration_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &[],
        help: "Time that a worker took to handle a request, in seconds.",
        read: // From the start on, so that a rate sees the first request too.
        Read::Counts(|of, series| series.put(&of.counters.duration)),
    },
    Family {
        name: "gunicorn_worker_request_size_bytes",
        kind: Kind::Histogram,
        unit: Unit::Bytes,
        labels: &[],
        help: "Size of request bodies on the wire, in bytes.",
        read: Read::Counts(|of, series| series.put(seen(&of.counters.request_size))),
    },
    Family {
        name: "gunicorn_worker_response_size_bytes",
        kind: Kind::Histogram,
        unit: Unit::Bytes,
        labels: &[],
        help: "Size of response bodies on the wire, in bytes.",
        read: Read::Counts(|of, series| series.put(seen(&of.counters.response_size))),
    },
    Family {
        name: "gunicorn_worker_gc_pause_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &[],
        help: "Garbage-collection pauses of a worker, in seconds.",
        read: Read::Counts(|of, series| series.put(seen(&of.counters.gc_pause))),
    },
    Family {
        name: "gunicorn_worker_gil_wait_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        labels: &[],
        help: "Time that threads of a worker waited for the GIL, in seconds.",
        read: Read::Counts(|of, series| series.put(of.counters.gil_wait_ns.map(seconds))),
    },
    Family {
        name: "gunicorn_worker_failed_requests_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["method", "endpoint", "error_type"],
        help: "Requests whose WSGI application raised an exception.",
        read: Read::Counts(|of, series| errors(of.failed, series)),
    },
    Family {
        name: "gunicorn_worker_error_handling_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["method", "endpoint", "error_type"],
        help: "Requests for which Gunicorn's handle_error ran, including bad requests.",
        read: Read::Counts(|of, series| errors(of.handled, series)),
    },
    Family {
        name: "gunicorn_streams_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["kind"],
        help: "WebSockets and event streams that ended.",
        read: Read::Counts(|of, series| {
            streams(of.counters, series, |stream| stream.streams as f64);
        }),
    },
    Family {
        name: "gunicorn_stream_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        labels: &["kind"],
        help: "Duration of WebSockets and event streams that ended, in seconds.",
        read: Read::Counts(|of, series| {
            streams(of.counters, series, |stream| seconds(stream.duration_ns));
        }),
    },
    Family {
        name: "gunicorn_stream_sent_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        labels: &["kind"],
        help: "Bytes that workers wrote to WebSockets and event streams that ended.",
        read: Read::Counts(|of, series| {
            streams(of.counters, series, |stream| stream.sent_bytes as f64);
        }),
    },
    Family {
        name: "gunicorn_worker_busy_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        labels: &[],
        help: "Time during which a worker had at least one request in flight, in seconds.",
        read: Read::Counts(|of, series| series.put(seconds(of.counters.busy_ns))),
    },
    Family {
        name: "gunicorn_worker_cpu_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        labels: &[],
        help: "User and system CPU time of a worker, in seconds.",
        read: Read::Counts(|of, series| series.put(of.counters.cpu_ns.map(seconds))),
    },
    Family {
        name: "gunicorn_worker_restart_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["reason"],
        help: "Exits of a worker, by reason.",
        read: Read::Counts(|of, series| {
            for ((_, reason), &count) in &of.counters.ends {
                series.put_for([reason.as_str()], count);
            }
        }),
    },
    Family {
        name: "gunicorn_worker_restart_count_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["reason", "restart_type"],
        help: "Exits of a worker, by reason and restart type.",
        read: Read::Counts(|of, series| {
            for ((exit_kind, reason), &count) in &of.counters.ends {
                series.put_for([reason.as_str(), exit_kind.as_str()], count);
            }
        }),
    },
];

/// A histogram with values. Many workers have no request bodies, or no visible GC pauses: their
/// empty histograms are left out.
fn seen(histogram: &Histogram) -> Option<&Histogram> {
    (histogram.count() > 0).then_some(histogram)
}

/// Streams of each kind that there was.
fn streams<'a>(counters: &Counters, series: &mut Series<'a>, read: impl Fn(&StreamCounts) -> f64) {
    for (kind, counts) in &counters.streams {
        series.put_for([kind.as_str()], read(counts));
    }
}

fn errors(errors: &[ErrorView], series: &mut Series) {
    for error in errors {
        series.put_for(
            [error.method, &error.endpoint, &error.error_type],
            error.count,
        );
    }
}
