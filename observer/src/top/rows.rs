//! Rows of the panes, made from a view. All text becomes fit for a terminal here.

use super::columns::{Pane, Sort};
use observer_model::Untrusted;
use observer_model::event::Pid;
use observer_model::findings::finding::Urgency;
use observer_model::lifecycle::signal;
use observer_model::lifecycle::worker_event::{WorkerEvent, WorkerExit};
use observer_model::views::live_view::{App, LiveView, Phases, Worker};
use std::cmp::Ordering;

/// Characters of a text that are kept.
const TEXT_CHARS: usize = 300;

/// The value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Unknown,
    Text(String),
    Pid(Pid),
    Count(u64),
    /// A number, of the wanted number.
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
    Urgency(Urgency),
}

/// The mark of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Normal,
    /// There is a finding about it, or it is trouble itself.
    Trouble,
    /// It exited.
    Exited,
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The same for the same thing in the next view.
    pub id: String,
    pub master: Pid,
    pub worker: Option<Pid>,
    pub mark: Mark,
    /// One for each column of the pane.
    pub values: Vec<Value>,
}

/// A text, fit for a terminal.
#[must_use]
pub fn text(text: &Untrusted) -> String {
    text.for_terminal(TEXT_CHARS)
}

fn texted(of: &Untrusted) -> Value {
    Value::Text(text(of))
}

/// A word of this program.
fn word(word: &'static str) -> Value {
    Value::Text(word.to_owned())
}

/// A text that is empty when unknown.
fn known_text(of: &Untrusted) -> Value {
    if of.is_empty() { word("?") } else { texted(of) }
}

fn known<T>(value: Option<T>, of: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Unknown, of)
}

/// The rows of a pane in the order of the view; only those of one master, if one is given.
#[must_use]
pub fn of(view: &LiveView, pane: Pane, only: Option<Pid>) -> Vec<Row> {
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
        Pane::Exits => {
            let is_it = |it: &&WorkerEvent| only.is_none_or(|pid| pid == it.master_pid);
            view.events.iter().filter(is_it).map(event).collect()
        }
    }
}

fn findings(view: &LiveView, only: Option<Pid>) -> Vec<Row> {
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
            word(it.finding.as_str()),
            Value::Urgency(it.urgency),
            texted(&it.app),
            known(it.worker_pid, Value::Pid),
            Value::Seconds(view.time_seconds - it.since_seconds),
            texted(&it.evidence),
            texted(&it.meaning.clone().into()),
            texted(&it.advice.clone().into()),
        ],
    });
    let limited = view.observer.limited.iter().filter(|it| is_it(it.pid));
    let limited = limited.map(|it| Row {
        id: format!("limited {}", it.pid),
        master: it.pid,
        worker: None,
        mark: Mark::Trouble,
        values: vec![
            word("not covered"),
            Value::Urgency(Urgency::Info),
            texted(&it.app),
            Value::Unknown,
            Value::Unknown,
            Value::Text(format!(
                "master {}: level {}: {}",
                it.pid,
                text(&it.level),
                text(&it.reason)
            )),
            word("A master below the observation level `full`"),
            word("Run `gunicorn-observer doctor`; it prints a fix for each problem."),
        ],
    });
    let lost = view.observer.lost.iter().map(|(cause, count)| Row {
        id: format!("lost {}", cause.raw()),
        master: 0,
        worker: None,
        mark: Mark::Trouble,
        values: vec![
            word("lost"),
            Value::Urgency(Urgency::Warning),
            Value::Unknown,
            Value::Unknown,
            Value::Unknown,
            Value::Text(format!("lost {count} events ({})", text(cause))),
            word("Events that the observer could not count: totals are lower bounds"),
            word("Look up the cause in docs/METRICS.md."),
        ],
    });
    found.chain(limited).chain(lost).collect()
}

/// Whether there is a finding about a master or, if one is given, about a worker.
fn is_in_trouble(view: &LiveView, master: Pid, worker: Option<Pid>) -> bool {
    view.findings
        .iter()
        .any(|it| it.master_pid == master && (worker.is_none() || it.worker_pid == worker))
}

fn mark(view: &LiveView, ended: bool, master: Pid, worker: Option<Pid>) -> Mark {
    if ended {
        Mark::Exited
    } else if is_in_trouble(view, master, worker) {
        Mark::Trouble
    } else {
        Mark::Normal
    }
}

fn app(view: &LiveView, app: &App) -> Row {
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
            if app.ended {
                word("exited")
            } else {
                texted(&app.level)
            },
            texted(&app.gunicorn_version),
            texted(&app.python_version),
        ],
    }
}

fn worker_state(worker: &Worker) -> Value {
    if worker.ended {
        return word(worker.reason.map_or("exited", |reason| reason.as_str()));
    }
    known(worker.state, |state| word(state.as_str()))
}

fn worker(view: &LiveView, app: &App, worker: &Worker) -> Row {
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
            known_text(&it.route),
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
            id: format!("{} {} {}", app.master_pid, it.method.raw(), it.route.raw()),
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
            app.master_pid,
            it.method.raw(),
            it.endpoint.raw(),
            it.status.unwrap_or_default(),
            it.error_type.raw(),
            it.raised_in.raw()
        ),
        master: app.master_pid,
        worker: None,
        mark: Mark::Normal,
        values: vec![
            Value::Count(it.count),
            known(it.status, |status| Value::Count(status.into())),
            texted(&it.method),
            known_text(&it.endpoint),
            texted(&it.error_type),
            texted(&it.raised_in),
            texted(&app.app),
        ],
    })
}

/// The path if it is known, else the route.
fn path(path: Option<&Untrusted>, route: &Untrusted) -> Value {
    path.map_or_else(|| known_text(route), texted)
}

fn in_progress(view: &LiveView, app: &App, worker: &Worker) -> Option<Row> {
    let oldest = worker.oldest_request.as_ref().filter(|_| !worker.ended)?;
    Some(Row {
        id: worker.pid.to_string(),
        master: app.master_pid,
        worker: Some(worker.pid),
        mark: mark(view, worker.ended, app.master_pid, Some(worker.pid)),
        values: vec![
            Value::Seconds(oldest.age_seconds),
            known_text(oldest.method.as_ref().unwrap_or(&Untrusted::default())),
            path(oldest.path.as_ref(), &oldest.route),
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
            path(it.path.as_ref(), &it.route),
            Value::Pid(it.worker_pid),
        ];
        values.extend(phases(&it.phases));
        values.push(texted(&app.app));
        Row {
            id: format!("{} {} {}", it.worker_pid, it.time_seconds, it.route.raw()),
            master: app.master_pid,
            worker: Some(it.worker_pid),
            mark: Mark::Normal,
            values,
        }
    })
}

fn event(it: &WorkerEvent) -> Row {
    let exit = it.exit.as_ref();
    let is_trouble = exit.is_some_and(|exit| exit.reason.is_trouble());
    let (process, pid) = it.process();
    let status = |exit: &WorkerExit| match (exit.exit_code, exit.exit_signal) {
        (Some(code), _) => Value::Text(format!("code {code}")),
        (None, Some(number)) => Value::Text(format!("SIG{}", signal::name(number))),
        (None, None) => Value::Unknown,
    };
    Row {
        id: format!("{} {pid} {}", it.event, it.time_seconds),
        master: it.master_pid,
        worker: it.worker_pid,
        mark: if is_trouble {
            Mark::Trouble
        } else {
            Mark::Normal
        },
        values: vec![
            Value::At(it.time_seconds),
            word(if exit.is_some() { "exited" } else { "started" }),
            word(process),
            Value::Pid(pid),
            known(exit, |exit| word(exit.reason.as_str())),
            known(exit, |exit| word(exit.restart_type.as_str())),
            known(exit, status),
            known(exit.filter(|_| process != "dirty"), |exit| {
                Value::Count(exit.served)
            }),
            known(exit.and_then(|exit| exit.uptime_seconds), Value::Seconds),
            known(exit.and_then(|exit| exit.stuck_in.as_ref()), texted),
            texted(&it.app),
        ],
    }
}

impl Value {
    /// The order of two values of one column.
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            // The most urgent is the largest.
            (Self::Urgency(one), Self::Urgency(other)) => other.cmp(one),
            (one, other) => one.number().total_cmp(&other.number()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "only for the order")]
    fn number(&self) -> f64 {
        match *self {
            Self::Unknown | Self::Text(_) | Self::Urgency(_) => 0.0,
            Self::Pid(number) | Self::Of(number, _) => number.into(),
            Self::Count(number) | Self::Bytes(number) => number as f64,
            Self::PerSecond(number)
            | Self::Seconds(number)
            | Self::Share(number)
            | Self::Percent(number)
            | Self::At(number) => number,
        }
    }

    /// Whether it holds `wanted`, whatever the case of letters.
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::Text(text) => text.to_lowercase().contains(wanted),
            Self::Urgency(urgency) => urgency.as_str().contains(wanted),
            Self::Pid(pid) => pid.to_string().contains(wanted),
            // A status.
            Self::Count(count) => count.to_string() == wanted,
            _ => false,
        }
    }
}

/// Keeps the rows that hold `filter` in some column.
pub fn filter(rows: &mut Vec<Row>, filter: &str) {
    let wanted = filter.to_lowercase();
    if !wanted.is_empty() {
        rows.retain(|row| row.values.iter().any(|value| value.has(&wanted)));
    }
}

/// Sorts the rows; unknown values come last in either direction.
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
