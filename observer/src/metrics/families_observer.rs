//! The families of the observer itself: what it saw, lost, does not cover and uses.

use super::family::Family;
use observer_model::views::metrics_view::Snapshot;

/// All of them.
pub fn all(snapshot: &Snapshot) -> Vec<Family> {
    let observer = &snapshot.observer;

    let mut events = Family::counter(
        "gunicorn_observer_events_total",
        "Records that came from the kernel, by kind.",
    );
    for (kind, count) in &observer.events {
        events.count(&[("kind", kind)], *count);
    }
    let mut lost = Family::counter(
        "gunicorn_observer_lost_total",
        "Things that were not observed, by cause: above zero, other totals are lower bounds.",
    );
    for (cause, count) in &observer.lost {
        lost.count(&[("cause", cause)], *count);
    }
    let mut hits = Family::counter(
        "gunicorn_observer_probe_hits_total",
        "What the programs in the kernel counted, by kind.",
    );
    for (kind, count) in &observer.counts {
        hits.count(&[("kind", kind)], *count);
    }
    let mut level = Family::gauge(
        "gunicorn_observer_target_level",
        "How well a master and its workers are observed (full, socket, none), and why not better.",
    );
    for target in &observer.targets {
        let pid = target.pid.to_string();
        let labels = [
            ("app", target.app.as_str()),
            ("pid", &pid),
            ("level", target.level),
            ("reason", &target.reason),
        ];
        level.count(&labels, 1);
    }
    let mut deep_capture = Family::gauge(
        "gunicorn_observer_deep_capture",
        "Deep captures of exceptions, by state (looking, resting or failed) and reason.",
    );
    for view in &observer.deep_captures {
        let pid = view.pid.to_string();
        let labels = [
            ("app", view.app.as_str()),
            ("master_pid", &pid),
            ("state", view.state),
            ("reason", &view.reason),
        ];
        deep_capture.count(&labels, 1);
    }
    let mut deep_captures = Family::counter(
        "gunicorn_observer_deep_captures_total",
        "Deep captures started.",
    );
    deep_captures.count(&[], observer.deep_captures_begun);
    let mut checks = Family::counter(
        "gunicorn_observer_deep_capture_checks_total",
        "Deep-capture self-checks on 5xx with a known exception, by agreement.",
    );
    checks.count(&[("agrees", "yes")], observer.deep_captures_agreed);
    checks.count(&[("agrees", "no")], observer.deep_captures_disagreed);
    let mut build = Family::gauge("gunicorn_observer_build_info", "Version of the observer.");
    let labels = [
        ("version", observer.version.as_str()),
        ("revision", observer.revision.as_str()),
    ];
    build.count(&labels, 1);
    let mut cpu = Family::counter(
        "gunicorn_observer_cpu_seconds_total",
        "Processor time that the observer process used.",
    );
    if let Some(seconds) = observer.cpu_seconds {
        cpu.add(&[], seconds);
    }
    let mut memory = Family::gauge(
        "gunicorn_observer_resident_memory_bytes",
        "Memory that the observer process uses.",
    );
    if let Some(bytes) = observer.resident_bytes {
        memory.count(&[], bytes);
    }

    let mut entries = Family::gauge(
        "gunicorn_observer_map_entries",
        "Entries of a map in the kernel: processes, connections and requests that are followed.",
    );
    for (map, count) in &observer.map_entries {
        entries.count(&[("map", map)], *count);
    }

    let mut pods = Family::gauge(
        "gunicorn_observer_kubernetes_pods",
        "Pods of this node that the API server told of.",
    );
    let mut errors = Family::counter(
        "gunicorn_observer_kubernetes_errors_total",
        "Times that the API server could not be asked.",
    );
    if let Some(kubernetes) = observer.kubernetes {
        pods.count(&[], kubernetes.pods);
        errors.count(&[], kubernetes.errors);
    }
    let mut all = vec![
        events,
        lost,
        hits,
        entries,
        level,
        deep_capture,
        deep_captures,
        checks,
        build,
        cpu,
        memory,
        pods,
        errors,
    ];
    all.push(features(snapshot));
    all.extend(programs(snapshot));
    all
}

fn features(snapshot: &Snapshot) -> Family {
    let mut features = Family::gauge(
        "gunicorn_observer_feature",
        "Whether this kernel lets something be observed, 1 or 0, and why not.",
    );
    for (feature, reason) in &snapshot.observer.features {
        let labels = [("feature", feature.as_str()), ("reason", reason)];
        features.count(&labels, reason.is_empty().into());
    }
    features
}

fn programs(snapshot: &Snapshot) -> [Family; 4] {
    let mut attached = Family::gauge(
        "gunicorn_observer_program_attachments",
        "Places that a program in the kernel is attached to.",
    );
    let mut misses = Family::counter(
        "gunicorn_observer_program_recursion_misses_total",
        "Runs of a program that the kernel skipped.",
    );
    let mut runs = Family::counter(
        "gunicorn_observer_program_runs_total",
        "Runs of a program, while kernel.bpf_stats_enabled is set.",
    );
    let mut time = Family::counter(
        "gunicorn_observer_program_run_seconds_total",
        "Run time of a program, while kernel.bpf_stats_enabled is set.",
    );
    for (name, program) in &snapshot.observer.programs {
        let labels = [("program", name.as_str())];
        attached.count(&labels, program.attached.into());
        misses.count(&labels, program.recursion_misses);
        if let Some(count) = program.runs {
            runs.count(&labels, count);
        }
        if let Some(ns) = program.run_time_ns {
            #[expect(clippy::cast_precision_loss, reason = "an exported value is a float")]
            time.add(&labels, ns as f64 / 1e9);
        }
    }
    [attached, misses, runs, time]
}
