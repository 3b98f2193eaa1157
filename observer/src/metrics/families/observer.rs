//! The observer itself: what it sees, loses and cannot observe.

use crate::metrics::family::{Family, Kind, Read, Unit};
use observer_model::duration::seconds;

pub const FAMILIES: &[Family] = &[
    Family {
        name: "gunicorn_observer_events_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["kind"],
        help: "Records received from the eBPF programs, by kind.",
        read: Read::Observer(|observer, series| {
            for (name, &count) in &observer.events {
                series.put_for([name], count);
            }
        }),
    },
    Family {
        name: "gunicorn_observer_lost_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["cause"],
        help: "Events that were not observed, by cause; above 0, other totals are lower bounds.",
        read: Read::Observer(|observer, series| {
            for (name, &count) in &observer.lost {
                series.put_for([name], count);
            }
        }),
    },
    Family {
        name: "gunicorn_observer_probe_hits_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["kind"],
        help: "Events counted by the eBPF programs, by kind.",
        read: Read::Observer(|observer, series| {
            for (name, &count) in &observer.counts {
                series.put_for([name], count);
            }
        }),
    },
    Family {
        name: "gunicorn_observer_map_entries",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["map"],
        help: "Entries of an eBPF map.",
        read: Read::Observer(|observer, series| {
            for (name, &count) in &observer.map_entries {
                series.put_for([name], count);
            }
        }),
    },
    Family {
        name: "gunicorn_observer_target_level",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["app", "master_pid", "level", "reason"],
        help: "Observation level of a master and the reason it is not `full`; always 1.",
        read: Read::Observer(|observer, series| {
            for target in &observer.targets {
                let pid = target.pid.to_string();
                series.put_for([&*target.app, &pid, target.level, &target.reason], true);
            }
        }),
    },
    Family {
        name: "gunicorn_observer_deep_capture",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["app", "master_pid", "state", "reason"],
        help: "Deep captures of exceptions, by state (looking, resting or failed) and reason; always 1.",
        read: Read::Observer(|observer, series| {
            for capture in &observer.deep_captures {
                let pid = capture.pid.to_string();
                series.put_for([&*capture.app, &pid, capture.state, &capture.reason], true);
            }
        }),
    },
    Family {
        name: "gunicorn_observer_deep_captures_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &[],
        help: "Deep captures started.",
        read: Read::Observer(|observer, series| series.put(observer.deep_captures_begun)),
    },
    Family {
        name: "gunicorn_observer_deep_capture_checks_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["agrees"],
        help: "Deep-capture self-checks on 5xx with a known exception, by agreement.",
        read: Read::Observer(|observer, series| {
            series.put_for(["yes"], observer.deep_captures_agreed);
            series.put_for(["no"], observer.deep_captures_disagreed);
        }),
    },
    Family {
        name: "gunicorn_observer_build_info",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["version", "revision"],
        help: "Version and revision of the observer; always 1.",
        read: Read::Observer(|observer, series| {
            series.put_for([&*observer.version, &observer.revision], true);
        }),
    },
    Family {
        name: "gunicorn_observer_kubernetes_pods",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &[],
        help: "Pods of this node known from the Kubernetes API server.",
        read: Read::Observer(|observer, series| series.put(observer.kubernetes.map(|of| of.pods))),
    },
    Family {
        name: "gunicorn_observer_kubernetes_errors_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &[],
        help: "Failed requests to the Kubernetes API server.",
        read: Read::Observer(|observer, series| {
            series.put(observer.kubernetes.map(|of| of.errors));
        }),
    },
    Family {
        name: "gunicorn_observer_app_metrics_errors_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["reason"],
        help: "Applications' own metrics that could not be served, by reason.",
        read: Read::Observer(|observer, series| {
            for (reason, &count) in &observer.app_metrics_errors {
                series.put_for([reason], count);
            }
        }),
    },
    Family {
        name: "gunicorn_observer_feature",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["feature", "reason"],
        help: "Features that this kernel supports: 1, or 0 with the reason.",
        read: Read::Observer(|observer, series| {
            for (feature, reason) in &observer.features {
                series.put_for([feature, reason], reason.is_empty());
            }
        }),
    },
    Family {
        name: "gunicorn_observer_program_attachments",
        kind: Kind::Gauge,
        unit: Unit::One,
        labels: &["program"],
        help: "Attachments of an eBPF program.",
        read: Read::Observer(|observer, series| {
            for (program, totals) in &observer.programs {
                series.put_for([program], totals.attached);
            }
        }),
    },
    Family {
        name: "gunicorn_observer_program_recursion_misses_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["program"],
        help: "Runs of an eBPF program that the kernel skipped.",
        read: Read::Observer(|observer, series| {
            for (program, totals) in &observer.programs {
                series.put_for([program], totals.recursion_misses);
            }
        }),
    },
    Family {
        name: "gunicorn_observer_program_runs_total",
        kind: Kind::Counter,
        unit: Unit::One,
        labels: &["program"],
        help: "Runs of an eBPF program, while kernel.bpf_stats_enabled is set.",
        read: Read::Observer(|observer, series| {
            for (program, totals) in &observer.programs {
                series.put_for([program], totals.runs);
            }
        }),
    },
    Family {
        name: "gunicorn_observer_program_run_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        labels: &["program"],
        help: "Run time of an eBPF program, in seconds, while kernel.bpf_stats_enabled is set.",
        read: Read::Observer(|observer, series| {
            for (program, totals) in &observer.programs {
                series.put_for([program], totals.run_time_ns.map(seconds));
            }
        }),
    },
];
