//! A finished request as a line for people.

use crate::trace::Line;
use crate::untrusted::shown;
use observer_model::counters::worker_counters::Phase;
use observer_model::errors::cause::{Cause, Failure, Raised};
use observer_model::lifecycle::exit_reason::ExitKind;
use observer_model::lifecycle::worker_event::Ended;
use observer_model::recent::finished_request::FinishedRequest;
use std::time::Duration;

/// Columns of a method, of a route and of an app; what is longer is cut.
const METHOD_COLUMNS: usize = 8;
const ROUTE_COLUMNS: usize = 36;
const APP_COLUMNS: usize = 20;
/// Characters of a class or of a place that are shown.
const NAME_CHARS: usize = 120;

/// The phases in their order, each with the letter before its milliseconds.
const PHASES: [(Phase, char); 5] = [
    (Phase::Queue, 'q'),
    (Phase::Dispatch, 'd'),
    (Phase::Read, 'r'),
    (Phase::App, 'a'),
    (Phase::Write, 'w'),
];

/// The line above all others.
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

/// The line of a request; with its path in the place of its route if `paths`.
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
        &known(
            request.method.as_deref().unwrap_or_default(),
            METHOD_COLUMNS,
        ),
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

/// What stands out on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    Red,
    Yellow,
}

impl Color {
    /// A line in this colour, by an escape that every terminal with colours knows (ECMA-48, SGR).
    #[must_use]
    pub fn paint(self, line: &str) -> String {
        let code = match self {
            Self::Red => 31,
            Self::Yellow => 33,
        };
        format!("\x1b[{code}m{}\x1b[0m\n", line.trim_end_matches('\n'))
    }
}

/// The colour of a line: red is what the server did wrong, yellow what its client did, or what
/// nobody knows.
#[must_use]
pub fn color(line: &Line) -> Option<Color> {
    match line {
        Line::Request(finished) => match finished.request.status {
            Some(500..) => Some(Color::Red),
            Some(400..) | None => Some(Color::Yellow),
            Some(_) => finished.cause.as_ref().map(|_| Color::Red),
        },
        Line::Event(event) => {
            let is_forced = |ended: &Ended| ended.restart_type == ExitKind::Forced;
            event
                .ended
                .as_ref()
                .is_some_and(is_forced)
                .then_some(Color::Red)
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

/// To a tenth.
fn milliseconds(ns: u64) -> String {
    let tenths = ns.saturating_add(50_000) / 100_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn place(finished: &FinishedRequest, paths: bool) -> String {
    let request = &finished.request;
    match &request.path {
        Some(path) if paths && request.path_cut => cut(&format!("{path}…"), ROUTE_COLUMNS),
        Some(path) if paths => cut(path, ROUTE_COLUMNS),
        _ => known(&finished.route, ROUTE_COLUMNS),
    }
}

/// A text that may be unknown.
fn known(text: &str, columns: usize) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        cut(text, columns)
    }
}

/// A text in so many columns, made harmless.
fn cut(text: &str, columns: usize) -> String {
    let shown = shown(text, columns);
    if shown.chars().count() <= columns {
        return shown;
    }
    let kept = columns.saturating_sub(1);
    shown.chars().take(kept).chain(['…']).collect()
}

/// What went wrong; empty when nothing did.
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
        Some(Cause::None) => parts.push("no exception".to_owned()),
        // Why it is so is said.
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
        text += &format!(" (from {})", shown(place, NAME_CHARS));
    }
    if let Some(root) = &failure.root_cause {
        text += &format!(" ← {}", one(root));
    }
    text
}

fn one(raised: &Raised) -> String {
    let class = match raised.error.name.as_str() {
        "" => "an exception".to_owned(),
        name => shown(name, NAME_CHARS),
    };
    if raised.raised_in.is_empty() {
        class
    } else {
        format!("{class} in {}", shown(&raised.raised_in, NAME_CHARS))
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
