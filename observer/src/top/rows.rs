//! Rows of the panes, made from a view. Whatever an observed process calls itself is made fit for a
//! terminal here, once for all.

use super::columns::{Pane, Sort};
use crate::untrusted::shown;
use observer_model::event::Pid;
use observer_model::lifecycle::signal;
use observer_model::lifecycle::worker_event::WorkerEvent;
use observer_model::views::live_view::{App, Phases, View, Worker};
use std::cmp::Ordering;

/// Characters of a text that are kept.
const TEXT_CHARS: usize = 300;

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Unknown,
    Text(String),
    Pid(Pid),
    Count(u64),
    /// So many of as many as should be.
    Of(u32, Option<u32>),
    PerSecond(f64),
    Seconds(f64),
    /// A share, from 0 to 1.
    Share(f64),
    /// From 0 to 100 and above.
    Percent(f64),
    Bytes(u64),
    /// Unix time.
    At(f64),
}

/// What is to be seen of a row at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Normal,
    /// There is a finding about it.
    Trouble,
    /// It has ended.
    Ended,
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The same for the same thing in the next view.
    pub id: String,
    pub master: Pid,
    pub worker: Option<Pid>,
    pub mark: Mark,
    /// As many as the pane has columns.
    pub values: Vec<Value>,
}

/// A text of an observed process, fit for a terminal.
#[must_use]
pub fn text(text: &str) -> String {
    shown(text, TEXT_CHARS)
}

fn texted(of: &str) -> Value {
    Value::Text(text(of))
}

fn known<T>(value: Option<T>, of: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Unknown, of)
}

/// The rows of a pane as the view has them, only those of one master if one is named.
#[must_use]
pub fn of(view: &View, pane: Pane, only: Option<Pid>) -> Vec<Row> {
    let apps = || {
        let is_it = move |app: &&App| only.is_none_or(|pid| pid == app.master_pid);
        view.apps.iter().filter(is_it)
    };
    match pane {
        Pane::Findings => findings(view, only),
        Pane::Apps => apps().map(|it| app(view, it)).collect(),
        Pane::Workers => apps()
            .flat_map(|app| app.workers.iter().map(move |it| worker(view, app, it)))
            .collect(),
        Pane::Routes => apps().flat_map(routes).collect(),
        Pane::Errors => apps().flat_map(errors).collect(),
        Pane::InProgress => {
            let of = |app: &'_ App| {
                let workers = app.workers.iter();
                workers
                    .filter_map(|it| in_progress(view, app, it))
                    .collect::<Vec<_>>()
            };
            apps().flat_map(of).collect()
        }
        Pane::Slowest => apps().flat_map(slowest).collect(),
        Pane::Ends => {
            let is_it = |it: &&WorkerEvent| only.is_none_or(|pid| pid == it.master_pid);
            view.events.iter().filter(is_it).map(end).collect()
        }
    }
}

fn findings(view: &View, only: Option<Pid>) -> Vec<Row> {
    let is_it = |pid: Pid| only.is_none_or(|only| only == pid);
    let found = view.findings.iter().filter(|it| is_it(it.master_pid));
    let found = found.map(|it| Row {
        id: format!(
            "{} {} {:?}",
            it.finding.as_str(),
            it.master_pid,
            it.worker_pid
        ),
        master: it.master_pid,
        worker: it.worker_pid,
        mark: Mark::Trouble,
        values: vec![
            texted(it.finding.as_str()),
            texted(&it.app),
            known(it.worker_pid, Value::Pid),
            Value::Seconds(view.time_seconds - it.since_seconds),
            texted(&it.evidence),
        ],
    });
    let limited = view.observer.limited.iter().filter(|it| is_it(it.pid));
    let limited = limited.map(|it| Row {
        id: format!("limited {}", it.pid),
        master: it.pid,
        worker: None,
        mark: Mark::Trouble,
        values: vec![
            texted("not covered"),
            texted(&it.app),
            Value::Unknown,
            Value::Unknown,
            texted(&format!(
                "master {}: level {}: {}",
                it.pid, it.level, it.reason
            )),
        ],
    });
    let lost = view.observer.lost.iter().map(|(cause, count)| Row {
        id: format!("lost {cause}"),
        master: 0,
        worker: None,
        mark: Mark::Trouble,
        values: vec![
            texted("lost"),
            Value::Unknown,
            Value::Unknown,
            Value::Unknown,
            texted(&format!(
                "{count} by {cause}; docs/METRICS.md says what that is"
            )),
        ],
    });
    found.chain(limited).chain(lost).collect()
}

/// Whether something was found of a master or, if one is named, of a worker.
fn is_in_trouble(view: &View, master: Pid, worker: Option<Pid>) -> bool {
    view.findings
        .iter()
        .any(|it| it.master_pid == master && (worker.is_none() || it.worker_pid == worker))
}

fn mark(view: &View, ended: bool, master: Pid, worker: Option<Pid>) -> Mark {
    if ended {
        Mark::Ended
    } else if is_in_trouble(view, master, worker) {
        Mark::Trouble
    } else {
        Mark::Normal
    }
}

fn app(view: &View, app: &App) -> Row {
    let now = &app.now;
    let backlog = app.listeners.iter().map(|it| u64::from(it.backlog)).sum();
    Row {
        id: app.master_pid.to_string(),
        master: app.master_pid,
        worker: None,
        mark: mark(view, app.ended, app.master_pid, None),
        values: vec![
            texted(&app.app),
            Value::Pid(app.master_pid),
            Value::Of(app.workers_live, app.workers_wanted),
            Value::PerSecond(now.requests_per_second),
            Value::PerSecond(now.errors_per_second),
            known(now.p50_seconds, Value::Seconds),
            known(now.p95_seconds, Value::Seconds),
            known(now.p99_seconds, Value::Seconds),
            known(now.queue_p95_seconds, Value::Seconds),
            known(now.utilisation, Value::Share),
            Value::Count(app.in_flight.into()),
            Value::Count(backlog),
            Value::Count(app.requests_total),
            Value::Count(app.errors_total),
            texted(&app.worker_class),
            texted(if app.ended { "ended" } else { &app.level }),
            texted(&app.gunicorn_version),
            texted(&app.python_version),
        ],
    }
}

fn worker_state(worker: &Worker) -> Value {
    if worker.ended {
        return texted(worker.reason.map_or("ended", |reason| reason.as_str()));
    }
    known(worker.state, |state| texted(state.as_str()))
}

fn worker(view: &View, app: &App, worker: &Worker) -> Row {
    let oldest = worker.oldest_request.as_ref();
    let count = |value: Option<u32>| known(value, |count| Value::Count(count.into()));
    Row {
        id: format!("{} {}", worker.pid, worker.id),
        master: app.master_pid,
        worker: Some(worker.pid),
        mark: mark(view, worker.ended, app.master_pid, Some(worker.pid)),
        values: vec![
            Value::Pid(worker.pid),
            texted(&app.app),
            worker_state(worker),
            known(worker.uptime_seconds, Value::Seconds),
            known(worker.requests_per_second, Value::PerSecond),
            known(worker.busy, Value::Share),
            Value::Count(worker.in_flight.into()),
            known(oldest.map(|it| it.age_seconds), Value::Seconds),
            Value::Count(worker.requests_total),
            known(worker.cpu_percent, Value::Percent),
            known(worker.memory_bytes, Value::Bytes),
            count(worker.threads),
            count(worker.open_fds),
            known(worker.heartbeat_age_seconds, Value::Seconds),
            texted(&worker.class),
        ],
    }
}

fn phases(of: &Phases) -> [Value; 5] {
    [
        known(of.queue_seconds, Value::Seconds),
        known(of.dispatch_seconds, Value::Seconds),
        known(of.read_seconds, Value::Seconds),
        known(of.app_seconds, Value::Seconds),
        known(of.write_seconds, Value::Seconds),
    ]
}

fn routes(app: &App) -> impl Iterator<Item = Row> {
    app.routes.iter().map(|it| {
        let mut values = vec![
            texted(&it.method),
            texted(if it.route.is_empty() { "?" } else { &it.route }),
            Value::Count(it.requests),
            Value::Count(it.errors),
            known(it.p50_seconds, Value::Seconds),
            known(it.p95_seconds, Value::Seconds),
            known(it.p99_seconds, Value::Seconds),
            Value::Seconds(it.total_seconds),
        ];
        values.extend(phases(&it.phases));
        values.push(texted(&app.app));
        Row {
            id: format!("{} {} {}", app.master_pid, it.method, it.route),
            master: app.master_pid,
            worker: None,
            mark: Mark::Normal,
            values,
        }
    })
}

fn errors(app: &App) -> impl Iterator<Item = Row> {
    app.errors.iter().map(|it| Row {
        id: format!(
            "{} {} {} {} {} {}",
            app.master_pid, it.method, it.endpoint, it.status, it.error_type, it.raised_in
        ),
        master: app.master_pid,
        worker: None,
        mark: Mark::Normal,
        values: vec![
            Value::Count(it.count),
            Value::Count(it.status.into()),
            texted(&it.method),
            texted(if it.endpoint.is_empty() {
                "?"
            } else {
                &it.endpoint
            }),
            texted(&it.error_type),
            texted(&it.raised_in),
            texted(&app.app),
        ],
    })
}

/// A path if it is known, else a route.
fn path(path: Option<&str>, route: &str) -> Value {
    match path {
        Some(path) => texted(path),
        None if route.is_empty() => texted("?"),
        None => texted(route),
    }
}

fn in_progress(view: &View, app: &App, worker: &Worker) -> Option<Row> {
    let oldest = worker.oldest_request.as_ref().filter(|_| !worker.ended)?;
    Some(Row {
        id: worker.pid.to_string(),
        master: app.master_pid,
        worker: Some(worker.pid),
        mark: mark(view, worker.ended, app.master_pid, Some(worker.pid)),
        values: vec![
            Value::Seconds(oldest.age_seconds),
            texted(oldest.method.as_deref().unwrap_or("?")),
            path(oldest.path.as_deref(), &oldest.route),
            Value::Pid(worker.pid),
            Value::Count(worker.in_flight.into()),
            worker_state(worker),
            known(worker.heartbeat_age_seconds, Value::Seconds),
            texted(&app.app),
        ],
    })
}

fn slowest(app: &App) -> impl Iterator<Item = Row> {
    app.slowest.iter().map(|it| {
        let mut values = vec![
            Value::At(it.time_seconds),
            Value::Seconds(it.duration_seconds),
            known(it.status, |status| Value::Count(status.into())),
            texted(&it.method),
            path(it.path.as_deref(), &it.route),
            Value::Pid(it.worker_pid),
        ];
        values.extend(phases(&it.phases));
        values.push(texted(&app.app));
        Row {
            id: format!("{} {} {}", it.worker_pid, it.time_seconds, it.route),
            master: app.master_pid,
            worker: Some(it.worker_pid),
            mark: Mark::Normal,
            values,
        }
    })
}

fn end(it: &WorkerEvent) -> Row {
    let ended = it.ended.as_ref();
    let is_trouble = ended.is_some_and(|ended| ended.reason.is_trouble());
    let exit = |ended: &observer_model::lifecycle::worker_event::Ended| match (
        ended.exit_code,
        ended.exit_signal,
    ) {
        (Some(code), _) => texted(&format!("code {code}")),
        (None, Some(number)) => texted(&format!("SIG{}", signal::name(number))),
        (None, None) => Value::Unknown,
    };
    Row {
        id: format!("{} {} {}", it.event, it.worker_pid, it.time_seconds),
        master: it.master_pid,
        worker: Some(it.worker_pid),
        mark: if is_trouble {
            Mark::Trouble
        } else {
            Mark::Normal
        },
        values: vec![
            Value::At(it.time_seconds),
            texted(it.event.trim_start_matches("worker_")),
            Value::Pid(it.worker_pid),
            known(ended, |ended| texted(ended.reason.as_str())),
            known(ended, |ended| texted(ended.restart_type.as_str())),
            known(ended, exit),
            known(ended, |ended| Value::Count(ended.served)),
            known(ended.and_then(|ended| ended.uptime_seconds), Value::Seconds),
            known(ended.and_then(|ended| ended.stuck_in.as_deref()), texted),
            texted(&it.app),
        ],
    }
}

impl Value {
    /// In the order of what it is; what is not known has none.
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (one, other) => one.number().total_cmp(&other.number()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "it is for an order only")]
    fn number(&self) -> f64 {
        match *self {
            Self::Unknown | Self::Text(_) => 0.0,
            Self::Pid(number) | Self::Of(number, _) => number.into(),
            Self::Count(number) | Self::Bytes(number) => number as f64,
            Self::PerSecond(number)
            | Self::Seconds(number)
            | Self::Share(number)
            | Self::Percent(number)
            | Self::At(number) => number,
        }
    }

    /// Whether it holds `wanted`, in whatever case of letters.
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::Text(text) => text.to_lowercase().contains(wanted),
            Self::Pid(pid) => pid.to_string().contains(wanted),
            // A status.
            Self::Count(count) => count.to_string() == wanted,
            _ => false,
        }
    }
}

/// Leaves those that hold `filter` in some column.
pub fn filter(rows: &mut Vec<Row>, filter: &str) {
    let wanted = filter.to_lowercase();
    if !wanted.is_empty() {
        rows.retain(|row| row.values.iter().any(|value| value.has(&wanted)));
    }
}

/// Sorts them; what is not known comes last in either direction.
pub fn sort(rows: &mut [Row], by: Sort) {
    let value = |row: &Row| row.values.get(by.column).cloned().unwrap_or(Value::Unknown);
    rows.sort_by(|one, other| {
        let (one, other) = (value(one), value(other));
        let order = match (&one, &other) {
            (Value::Unknown, Value::Unknown) => Ordering::Equal,
            (Value::Unknown, _) => return Ordering::Greater,
            (_, Value::Unknown) => return Ordering::Less,
            _ => one.order(&other),
        };
        if by.descending {
            order.reverse()
        } else {
            order
        }
    });
}
