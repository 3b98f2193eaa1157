//! Requests of an app, and what its masters are.

use crate::metrics::family::{Family, Kind, Read, Unit};
use crate::metrics::series::Series;
use observer_model::counters::histogram::Histogram;
use observer_model::duration::seconds;
use observer_model::event::LostFrom;
use observer_model::views::metrics_view::{AppView, HttpView};

const HTTP_LABELS: &[&str] = &[
    "worker_class",
    "http_request_method",
    "http_route",
    "http_response_status_code",
    "error_type",
];

pub const FAMILIES: &[Family] = &[
    Family {
        name: "http_server_request_duration_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: HTTP_LABELS,
        help: "Duration of HTTP requests, in seconds, as the OpenTelemetry conventions define it.",
        read: Read::App(|app, series| http(app, series, |of| Some(&of.duration))),
    },
    Family {
        name: "http_server_request_body_size_bytes",
        kind: Kind::Histogram,
        unit: Unit::Bytes,
        labels: HTTP_LABELS,
        help: "Size of the bodies of HTTP requests that have one, in bytes.",
        read: Read::App(|app, series| http(app, series, |of| of.request_size.as_deref())),
    },
    Family {
        name: "http_server_response_body_size_bytes",
        kind: Kind::Histogram,
        unit: Unit::Bytes,
        labels: HTTP_LABELS,
        help: "Size of the bodies of HTTP responses, in bytes.",
        read: Read::App(|app, series| http(app, series, |of| of.response_size.as_deref())),
    },
    Family {
        name: "gunicorn_request_phase_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["worker_class", "phase"],
        help: "Time that requests spent in a phase, in seconds, where the phase was seen.",
        read: Read::App(|app, series| {
            for phase in &app.phases {
                series.put_for([&phase.class, phase.phase.as_str()], &phase.duration);
            }
        }),
    },
    Family {
        name: "gunicorn_http_errors_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &[
            "worker_class",
            "method",
            "endpoint",
            "status",
            "error_type",
            "raised_in",
        ],
        help: "Responses with a 5xx status, by the exception behind them, and requests that the exit of \
               their worker ended.",
        read: Read::App(|app, series| {
            for error in &app.http_errors {
                let labels = [
                    &*error.class,
                    error.method,
                    &error.endpoint,
                    &number(error.status),
                    &error.error_type,
                    &error.raised_in,
                ];
                series.put_for(labels, error.count);
            }
        }),
    },
    Family {
        name: "gunicorn_requests_lost_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["worker_class", "reason"],
        help: "Connections that were closed without an answer though their client had sent a request, by where they were.",
        read: Read::App(|app, series| {
            for (class, of) in &app.unanswered {
                for from in LostFrom::ALL {
                    let count = of.lost.get(&from).copied().unwrap_or(0);
                    series.put_for([class, from.as_str()], count);
                }
            }
        }),
    },
    Family {
        name: "gunicorn_client_disconnects_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["worker_class"],
        help: "Requests whose client disconnected before the response was written.",
        read: Read::App(|app, series| {
            for (class, of) in &app.unanswered {
                series.put_for([&**class], of.disconnects);
            }
        }),
    },
    Family {
        name: "gunicorn_client_gone_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        labels: &["worker_class"],
        help: "Duration of the requests whose client disconnected before the response was written, in seconds.",
        read: Read::App(|app, series| {
            for (class, of) in &app.unanswered {
                series.put_for([&**class], seconds(of.gone_ns));
            }
        }),
    },
    Family {
        name: "gunicorn_master_workers",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "Live workers of a master.",
        read: Read::ObservedMaster(|master, series| series.put(master.view.workers_live)),
    },
    Family {
        name: "gunicorn_master_timeout_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "Worker timeout of a master, in seconds.",
        read: Read::Master(|master, series| series.put(master.view.timeout_seconds)),
    },
    Family {
        name: "gunicorn_app_info",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[
            "gunicorn_version",
            "python_version",
            "worker_class",
            "workers",
            "threads",
            "timeout",
            "bind",
        ],
        help: "Versions and settings of a master; always 1.",
        read: Read::Master(|master, series| app_info(master.view, series)),
    },
    Family {
        name: "gunicorn_master_container_info",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[
            "container_id",
            "container_runtime",
            "pod_uid",
            "workload_kind",
            "workload",
        ],
        help: "Container and workload of a master; always 1.",
        read: Read::Master(|master, series| container_info(master.view, series)),
    },
    Family {
        name: "gunicorn_observer_capped_requests_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &[],
        help: "Requests counted under the route `other` because the app reached --route-limit.",
        read: Read::ObservedMaster(|master, series| series.put(master.view.capped_requests)),
    },
    Family {
        name: "gunicorn_observer_capped_errors_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &[],
        help: "Error types and locations counted as `other` because the app reached --route-limit.",
        read: Read::ObservedMaster(|master, series| series.put(master.view.capped_errors)),
    },
];

fn http<'a>(
    app: &'a AppView,
    series: &mut Series<'a>,
    read: impl Fn(&'a HttpView) -> Option<&'a Histogram>,
) {
    for http in &app.http {
        let labels = [
            &*http.class,
            http.method,
            &http.route,
            &number(http.status),
            &http.error_type,
        ];
        series.put_for(labels, read(http));
    }
}

fn app_info(view: &AppView, series: &mut Series) {
    let labels = [
        &*view.gunicorn_version,
        &view.python_version,
        &view.worker_class,
        &number(view.workers_wanted),
        &number(view.threads),
        &number(view.timeout_seconds),
        &view.bind.join(","),
    ];
    if !view.ended {
        series.put_for(labels, true);
    }
}

fn container_info(view: &AppView, series: &mut Series) {
    let labels = [
        &*view.container_id,
        &view.container_runtime,
        &view.pod_uid,
        &view.pod.workload_kind,
        &view.pod.workload,
    ];
    if !view.ended && !view.container_id.is_empty() {
        series.put_for(labels, true);
    }
}

/// As a label; empty if unknown.
fn number(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
