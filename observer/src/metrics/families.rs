//! The families of workers and apps.

use super::families_now::{Now, NowFamilies};
use super::family::{Family, Labels};
use super::names::Names;
use observer_model::counters::worker_counters::Counters;
use observer_model::duration::seconds;
use observer_model::settings::WorkerLabel;
use observer_model::views::metrics_view::{AppView, ErrorView, Snapshot};

/// Families that are labelled by worker, slot or class.
pub fn workers(snapshot: &Snapshot, label: WorkerLabel) -> Vec<Family> {
    let mut families = WorkerFamilies::new();
    for app in &snapshot.apps {
        let names = Names::of(app);
        match label {
            WorkerLabel::Pid => by_pid(&mut families, app, &names),
            WorkerLabel::Slot => by_slot(&mut families, app, &names),
            // Nothing was seen of its requests: that is not zero.
            WorkerLabel::None if !app.observed => {}
            WorkerLabel::None => {
                for class in &app.classes {
                    let labels = names.master(&[("worker_class", &*class.class)]);
                    families.counters(&labels, &class.counters);
                    families.errors(&labels, &class.failed, &class.handled);
                    let live = app.workers.iter().filter(|worker| !worker.ended);
                    let of_class = live.filter(|worker| worker.class == class.class);
                    let now = Now::all(of_class.map(Now::of));
                    families.now.add(&labels, &now, true);
                }
            }
        }
    }
    families.into_vec()
}

fn by_pid(families: &mut WorkerFamilies, app: &AppView, names: &Names<'_>) {
    for worker in &app.workers {
        let (pid, slot) = (worker.pid.to_string(), worker.slot.to_string());
        let (pid, id) = (
            ("worker_pid", pid.as_str()),
            ("worker_id", worker.id.as_str()),
        );
        let class = ("worker_class", &*worker.class);
        let labels = names.master(&[pid, id, class]);
        if app.observed {
            families.counters(&labels, &worker.counters);
            families.errors(&labels, &worker.failed, &worker.handled);
        }
        if !worker.ended {
            families.now.add(&labels, &Now::of(worker), app.observed);
        }
        families
            .info
            .count(&names.master(&[("worker_slot", &slot), pid, id, class]), 1);
        if let Some(uptime) = worker.uptime_seconds {
            families.uptime.add(&labels, uptime);
        }
    }
}

fn by_slot(families: &mut WorkerFamilies, app: &AppView, names: &Names<'_>) {
    let seen = app.observed.then_some(&app.slots);
    for slot in seen.into_iter().flatten() {
        let number = slot.slot.to_string();
        let labels = names.master(&[
            ("worker_slot", number.as_str()),
            ("worker_class", &slot.class),
        ]);
        families.counters(&labels, &slot.counters);
        families.errors(&labels, &slot.failed, &slot.handled);
    }
    // The pid is named only for workers that live: that many series, not more.
    for worker in app.workers.iter().filter(|worker| !worker.ended) {
        let (pid, slot) = (worker.pid.to_string(), worker.slot.to_string());
        let slot = ("worker_slot", slot.as_str());
        let (pid, id) = (("worker_pid", pid.as_str()), ("worker_id", &*worker.id));
        let class = ("worker_class", &*worker.class);
        families
            .info
            .count(&names.master(&[slot, pid, id, class]), 1);
        let labels = names.master(&[slot, class]);
        families.now.add(&labels, &Now::of(worker), app.observed);
        if let Some(uptime) = worker.uptime_seconds {
            families.uptime.add(&labels, uptime);
        }
    }
}

struct WorkerFamilies {
    requests: Family,
    duration: Family,
    request_size: Family,
    response_size: Family,
    gc_pause: Family,
    gil_wait: Family,
    failed: Family,
    handled: Family,
    busy: Family,
    cpu: Family,
    restart: Family,
    restart_count: Family,
    now: NowFamilies,
    uptime: Family,
    info: Family,
}

impl WorkerFamilies {
    fn new() -> Self {
        Self {
            requests: Family::counter(
                "gunicorn_worker_requests_total",
                "Requests that a worker handled.",
            ),
            duration: Family::histogram(
                "gunicorn_worker_request_duration_seconds",
                "Time that a worker took for a request.",
            ),
            request_size: Family::histogram(
                "gunicorn_worker_request_size_bytes",
                "Bytes of a request's body on the wire.",
            ),
            response_size: Family::histogram(
                "gunicorn_worker_response_size_bytes",
                "Bytes of a response's body on the wire.",
            ),
            gc_pause: Family::histogram(
                "gunicorn_worker_gc_pause_seconds",
                "Time that a worker stood still while Python collected garbage.",
            ),
            gil_wait: Family::counter(
                "gunicorn_worker_gil_wait_seconds_total",
                "Time that threads of a worker waited for the GIL.",
            ),
            failed: Family::counter(
                "gunicorn_worker_failed_requests_total",
                "Requests that an exception left the application with.",
            ),
            handled: Family::counter(
                "gunicorn_worker_error_handling_total",
                "Requests that Gunicorn's handle_error ran for, bad ones too.",
            ),
            busy: Family::counter(
                "gunicorn_worker_busy_seconds_total",
                "Time that a worker had at least one request in progress.",
            ),
            cpu: Family::counter(
                "gunicorn_worker_cpu_seconds_total",
                "Processor time that a worker used.",
            ),
            restart: Family::counter(
                "gunicorn_worker_restart_total",
                "Ends of a worker, by reason.",
            ),
            restart_count: Family::counter(
                "gunicorn_worker_restart_count_total",
                "Ends of a worker, by how and why it ended.",
            ),
            now: NowFamilies::default(),
            uptime: Family::gauge(
                "gunicorn_worker_uptime_seconds",
                "Time since a worker process started.",
            ),
            info: Family::gauge("gunicorn_worker_info", "Names of a worker, for joins."),
        }
    }

    fn counters(&mut self, labels: Labels, counters: &Counters) {
        self.requests.count(labels, counters.requests);
        self.busy.add(labels, seconds(counters.busy_ns));
        if let Some(cpu_ns) = counters.cpu_ns {
            self.cpu.add(labels, seconds(cpu_ns));
        }
        for (&(exit_kind, reason), &count) in &counters.ends {
            let mut labels = labels.to_vec();
            labels.push(("reason", reason.as_str()));
            self.restart.count(&labels, count);
            labels.push(("restart_type", exit_kind.as_str()));
            self.restart_count.count(&labels, count);
        }
        // From zero on, so that a rate sees the first request too.
        self.duration.observe(labels, &counters.duration);
        // Sizes are often all unknown, and collections not seen: those are left out.
        for (family, sizes) in [
            (&mut self.request_size, &counters.request_size),
            (&mut self.response_size, &counters.response_size),
            (&mut self.gc_pause, &counters.gc_pause),
        ] {
            if sizes.count() > 0 {
                family.observe(labels, sizes);
            }
        }
        if let Some(waited_ns) = counters.gil_wait_ns {
            self.gil_wait.add(labels, seconds(waited_ns));
        }
    }

    fn errors(&mut self, labels: Labels, failed: &[ErrorView], handled: &[ErrorView]) {
        for (family, errors) in [(&mut self.failed, failed), (&mut self.handled, handled)] {
            for error in errors {
                let mut labels = labels.to_vec();
                labels.extend([
                    ("method", error.method),
                    ("endpoint", &error.endpoint),
                    ("error_type", &error.error_type),
                ]);
                family.count(&labels, error.count);
            }
        }
    }

    fn into_vec(self) -> Vec<Family> {
        let Self {
            requests,
            duration,
            request_size,
            response_size,
            gc_pause,
            gil_wait,
            failed,
            handled,
            busy,
            cpu,
            restart,
            restart_count,
            now,
            uptime,
            info,
        } = self;
        let mut all = vec![
            requests,
            duration,
            request_size,
            response_size,
            gc_pause,
            gil_wait,
            failed,
            handled,
            busy,
            cpu,
            restart,
            restart_count,
            uptime,
            info,
        ];
        all.extend(now.into_vec());
        all
    }
}

/// Families of whole apps.
pub fn apps(snapshot: &Snapshot) -> Vec<Family> {
    let mut http = Family::histogram(
        "http_server_request_duration_seconds",
        "Duration of HTTP server requests, as OpenTelemetry's conventions name it.",
    );
    let mut phases = Family::histogram(
        "gunicorn_request_phase_seconds",
        "Time that requests spent in a phase; a phase that was not seen is not counted.",
    );
    let mut workers = Family::gauge("gunicorn_master_workers", "Workers of a master that live.");
    let mut timeout = Family::gauge(
        "gunicorn_master_timeout_seconds",
        "The worker timeout of a master.",
    );
    let mut info = Family::gauge("gunicorn_app_info", "Versions and settings of a master.");
    let mut container = Family::gauge(
        "gunicorn_master_container_info",
        "The container that a master runs in.",
    );
    let mut capped = Family::counter(
        "gunicorn_observer_capped_requests_total",
        "Requests counted under the route `other`, for want of room for theirs.",
    );
    let mut errors = Family::counter(
        "gunicorn_http_errors_total",
        "Responses with a status of 500 or above, by the exception behind them.",
    );
    let mut capped_errors = Family::counter(
        "gunicorn_observer_capped_errors_total",
        "Times that a type or place of an error was called `other`, for want of room for its name.",
    );
    for view in &snapshot.apps {
        let names = Names::of(view);
        let master = names.master(&[]);
        if !view.ended {
            app_info(&mut info, view, &names);
            container_info(&mut container, view, &names);
        }
        if let Some(seconds) = view.timeout_seconds {
            timeout.count(&master, seconds.into());
        }
        // What was not seen is left out, never counted as zero.
        if !view.observed {
            continue;
        }
        for series in &view.http {
            let status = series
                .status
                .map(|status| status.to_string())
                .unwrap_or_default();
            let labels = names.app(&[
                ("worker_class", &series.class),
                ("http_request_method", series.method),
                ("http_route", &series.route),
                ("http_response_status_code", &status),
                ("error_type", &series.error_type),
            ]);
            http.observe(&labels, &series.duration);
        }
        for series in &view.phases {
            let labels = names.app(&[
                ("worker_class", &series.class),
                ("phase", series.phase.as_str()),
            ]);
            phases.observe(&labels, &series.duration);
        }
        workers.count(&master, view.workers_live.into());
        http_errors(&mut errors, view, &names);
        capped.count(&master, view.capped_requests);
        capped_errors.count(&master, view.capped_errors);
    }
    vec![
        http,
        phases,
        errors,
        workers,
        timeout,
        info,
        container,
        capped,
        capped_errors,
    ]
}

fn http_errors(errors: &mut Family, view: &AppView, names: &Names<'_>) {
    for error in &view.http_errors {
        let status = error.status.to_string();
        let labels = names.app(&[
            ("worker_class", &*error.class),
            ("method", error.method),
            ("endpoint", &error.endpoint),
            ("status", &status),
            ("error_type", &error.error_type),
            ("raised_in", &error.raised_in),
        ]);
        errors.count(&labels, error.count);
    }
}

fn app_info(info: &mut Family, view: &AppView, names: &Names<'_>) {
    let number = |value: Option<u32>| value.map(|value| value.to_string()).unwrap_or_default();
    let (workers, threads) = (number(view.workers_wanted), number(view.threads));
    let (timeout, bind) = (number(view.timeout_seconds), view.bind.join(","));
    let labels = names.master(&[
        ("gunicorn_version", &view.gunicorn_version),
        ("python_version", &view.python_version),
        ("worker_class", &view.worker_class),
        ("workers", &workers),
        ("threads", &threads),
        ("timeout", &timeout),
        ("bind", &bind),
    ]);
    info.count(&labels, 1);
}

fn container_info(info: &mut Family, view: &AppView, names: &Names<'_>) {
    if view.container_id.is_empty() {
        return;
    }
    let labels = names.master(&[
        ("container_id", view.container_id.as_str()),
        ("container_runtime", &view.container_runtime),
        ("pod_uid", &view.pod_uid),
        ("workload_kind", &view.pod.workload_kind),
        ("workload", &view.pod.workload),
    ]);
    info.count(&labels, 1);
}

#[cfg(test)]
#[path = "families_tests.rs"]
mod tests;
