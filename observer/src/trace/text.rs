//! A finished request as a line for people.

use crate::trace::Line;
use observer_model::Untrusted;
use observer_model::counters::worker_counters::Phase;
use observer_model::errors::cause::{Cause, Failure, Raised};
use observer_model::lifecycle::exit_reason::ExitKind;
use observer_model::lifecycle::worker_event::WorkerExit;
use observer_model::recent::finished_request::FinishedRequest;
use std::time::Duration;

/// Columns of a method, a route and an app; a longer text is cut.
const METHOD_COLUMNS: usize = 8;
const ROUTE_COLUMNS: usize = 36;
const APP_COLUMNS: usize = 20;
/// Most characters of a class or a function.
const NAME_CHARS: usize = 120;

/// The phases in order, each with the letter before its milliseconds.
const PHASES: [(Phase, char); 5] = [
    (Phase::Queue, 'q'),
    (Phase::Dispatch, 'd'),
    (Phase::Read, 'r'),
    (Phase::App, 'a'),
    (Phase::Write, 'w'),
];

/// The header line.
#[must_use]
pub fn header(paths: bool) -> String {
    let phases: String = PHASES
        .iter()
        .map(|(phase, _)| format!("{:<9}", phase.as_str().to_uppercase()))
        .collect();
    columns(&[
        "TIME (UTC)",
        "CODE",
        "METHOD",
        if paths { "PATH" } else { "ROUTE" },
        "DURATION",
        &phases,
        "WORKER",
        "APP",
        "ERROR",
    ])
}

/// The line of a request, with its path instead of its route if `paths`.
#[must_use]
pub fn line(finished: &FinishedRequest, paths: bool) -> String {
    let request = &finished.request;
    let missing = || "-".to_owned();
    let duration = finished
        .duration_ns
        .map_or_else(missing, |ns| format!("{}ms", milliseconds(ns)));
    let phase = |&(phase, letter): &(Phase, char)| {
        let ns = finished.phases_ns.get(phase.as_str());
        let text = ns.map_or_else(String::new, |&ns| format!("{letter}{}", milliseconds(ns)));
        format!("{text:<8} ")
    };
    columns(&[
        &time(finished.time_seconds),
        &request.status.map_or_else(missing, |s| s.to_string()),
        &request
            .method
            .as_ref()
            .map_or_else(missing, |method| known(method, METHOD_COLUMNS)),
        &place(finished, paths),
        &duration,
        &PHASES.iter().map(phase).collect::<String>(),
        &request.pid.to_string(),
        &known(&finished.app, APP_COLUMNS),
        &why(finished),
    ])
}

fn columns(
    [
        time,
        status,
        method,
        route,
        duration,
        phases,
        worker,
        app,
        why,
    ]: &[&str; 9],
) -> String {
    let (method_columns, route_columns, app_columns) = (METHOD_COLUMNS, ROUTE_COLUMNS, APP_COLUMNS);
    let line = format!(
        "{time:<13}  {status:<4}  {method:<method_columns$}  {route:<route_columns$}  \
         {duration:>10}  {phases:<45} {worker:>7}  {app:<app_columns$}  {why}"
    );
    line.trim_end().to_owned()
}

/// The colour of a line that stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    Red,
    Yellow,
}

impl Color {
    /// A line in this colour, by an escape of ECMA-48 (SGR).
    #[must_use]
    pub fn paint(self, line: &str) -> String {
        let code = match self {
            Self::Red => 31,
            Self::Yellow => 33,
        };
        format!("\x1b[{code}m{}\x1b[0m\n", line.trim_end_matches('\n'))
    }
}

/// The colour of a line: red for a failure of the server, yellow for one of the client or of unknown
/// cause.
#[must_use]
pub fn color(line: &Line) -> Option<Color> {
    match line {
        Line::Request(finished) => match finished.request.status {
            Some(500..) => Some(Color::Red),
            Some(400..) | None => Some(Color::Yellow),
            Some(_) => finished.cause.as_ref().map(|_| Color::Red),
        },
        Line::Event(event) => {
            let is_forced = |exit: &WorkerExit| exit.restart_type == ExitKind::Forced;
            let exit = event.exit.as_ref();
            exit.is_some_and(is_forced).then_some(Color::Red)
        }
    }
}

/// `12:34:56.789Z`
pub(super) fn time(seconds: f64) -> String {
    let ms = Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .as_millis();
    let (s, ms) = (ms / 1000, ms % 1000);
    let (hours, minutes, seconds) = (s / 3600 % 24, s / 60 % 60, s % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
}

/// Rounded to a tenth.
fn milliseconds(ns: u64) -> String {
    let tenths = ns.saturating_add(50_000) / 100_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn place(finished: &FinishedRequest, paths: bool) -> String {
    let request = &finished.request;
    match &request.path {
        Some(path) if paths && request.path_cut => {
            cut(&format!("{}…", path.raw()).into(), ROUTE_COLUMNS)
        }
        Some(path) if paths => cut(path, ROUTE_COLUMNS),
        _ => known(&finished.route, ROUTE_COLUMNS),
    }
}

/// A text, or a dash when it is unknown.
fn known(text: &Untrusted, columns: usize) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        cut(text, columns)
    }
}

/// A text fit for a terminal, in so many columns.
fn cut(text: &Untrusted, columns: usize) -> String {
    let text = text.for_terminal(columns);
    if text.chars().count() <= columns {
        return text;
    }
    let kept = columns.saturating_sub(1);
    text.chars().take(kept).chain(['…']).collect()
}

/// Why the request failed; empty if it did not.
fn why(finished: &FinishedRequest) -> String {
    let request = &finished.request;
    let marks = [
        (request.bad_request, "bad request"),
        (request.client_gone, "client gone"),
        (request.was_cut, "cut off"),
    ];
    let mut parts: Vec<String> = marks
        .into_iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, mark)| mark.to_owned())
        .collect();
    match &finished.cause {
        Some(Cause::Raised(failure)) => parts.push(raised(failure)),
        Some(Cause::WorkerExited(exit)) => parts.push(exit.as_str().replace('_', " ")),
        Some(Cause::None) => parts.push("no exception".to_owned()),
        // One of the marks is the reason.
        Some(Cause::Unknown) if request.client_gone || request.bad_request => {}
        Some(Cause::Unknown) => parts.push("cause unknown".to_owned()),
        None => {}
    }
    parts.join(", ")
}

/// `ValueError in shop/views.py:checkout ← KeyError in shop/cart.py:total`
fn raised(failure: &Failure) -> String {
    let mut text = one(&failure.raised);
    if let Some(place) = &failure.called_from {
        text += &format!(" (from {})", place.for_terminal(NAME_CHARS));
    }
    if let Some(root) = &failure.root_cause {
        text += &format!(" ← {}", one(root));
    }
    text
}

fn one(raised: &Raised) -> String {
    let name = &raised.error.name;
    let class = if name.is_empty() {
        "an exception".to_owned()
    } else {
        name.for_terminal(NAME_CHARS)
    };
    if raised.raised_in.is_empty() {
        class
    } else {
        format!("{class} in {}", raised.raised_in.for_terminal(NAME_CHARS))
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
