//! The lines above the rows: what this is, what is lost, what was found, which panes there are.

use super::format::{clock, cut, seconds};
use super::theme::Theme;
use crate::top::columns::Pane;
use crate::top::rows::text;
use crate::top::state::State;
use observer_model::views::live_view::View;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// Data that are older are told to be.
const OLD_SECONDS: f64 = 3.0;

/// What this is, where its data come from, and how old they are.
pub fn title(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let view = state.view();
    let mut parts = vec![Span::styled("gunicorn-observer top", theme.title())];
    if let Some(view) = view {
        let when = clock(view.time_seconds);
        parts.push(Span::raw(format!("  {when}")));
    }
    let age = state.age_seconds();
    let told = match (state.lost(), age) {
        (Some(why), Some(age)) => {
            let text = format!("  LOST the daemon, data {} old: {why}", seconds(age));
            Span::styled(text, theme.trouble())
        }
        (None, Some(age)) if age > OLD_SECONDS => {
            let text = format!("  NOTHING NEW, data {} old", seconds(age));
            Span::styled(text, theme.trouble())
        }
        (Some(why), None) => Span::styled(format!("  LOST the daemon: {why}"), theme.trouble()),
        (None, None) => Span::raw("  waiting for data (probes are attached first)"),
        (None, Some(_)) => Span::raw(""),
    };
    if state.is_paused() {
        parts.push(Span::styled("  PAUSED", theme.trouble()));
    }
    let is_lost = !told.content.is_empty();
    parts.push(told);
    if !is_lost {
        parts.push(Span::styled(format!("  {}", state.origin), theme.dim()));
    }
    frame.render_widget(Line::from(parts), area);
}

/// What is lost or not covered.
pub fn health(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let Some(view) = state.view() else {
        return;
    };
    let (lost, limited) = (lost(view), limited(view));
    let line = match (lost, limited) {
        (None, None) => {
            let live = || view.apps.iter().filter(|app| !app.ended);
            let full = live().filter(|app| app.level == "full").count();
            let text = match live().count() - full {
                0 => format!("nothing lost; masters observed with all probes: {full}"),
                others => format!(
                    "nothing lost; masters observed with all probes: {full}, not known yet: {others}"
                ),
            };
            Line::styled(text, theme.fine())
        }
        (lost, limited) => {
            let told: Vec<_> = [lost, limited].into_iter().flatten().collect();
            let told = cut(&told.join("; "), area.width.into());
            Line::styled(told, theme.trouble())
        }
    };
    frame.render_widget(line, area);
}

fn lost(view: &View) -> Option<String> {
    let lost = &view.observer.lost;
    let causes = lost
        .iter()
        .map(|(cause, count)| format!("{count} {}", text(cause)));
    let causes: Vec<_> = causes.collect();
    (!causes.is_empty()).then(|| format!("LOST {}: totals are lower bounds", causes.join(", ")))
}

fn limited(view: &View) -> Option<String> {
    let limited = &view.observer.limited;
    let told = limited.iter().map(|it| {
        let (app, level, reason) = (text(&it.app), text(&it.level), text(&it.reason));
        format!("{app} {} level {level}: {reason}", it.pid)
    });
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then(|| format!("NOT COVERED {}", told.join("; ")))
}

/// Lines that findings have.
#[must_use]
pub fn findings_height(state: &State, height: u16) -> u16 {
    let most = match height {
        0..16 => 1,
        16..40 => 3,
        _ => 6,
    };
    let found = state.view().map_or(0, |view| view.findings.len());
    u16::try_from(found).unwrap_or(most).clamp(1, most)
}

/// The first findings, those that are so for longest.
pub fn findings(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let Some(view) = state.view() else {
        return;
    };
    let mut found: Vec<_> = view.findings.iter().collect();
    found.sort_by(|one, other| one.since_seconds.total_cmp(&other.since_seconds));
    if found.is_empty() {
        frame.render_widget(Line::styled("no findings", theme.fine()), area);
        return;
    }
    let room = usize::from(area.height);
    for (row, finding) in area.rows().zip(&found) {
        let whom = match finding.worker_pid {
            Some(pid) => format!("worker {pid}"),
            None => format!("master {}", finding.master_pid),
        };
        let since = seconds(view.time_seconds - finding.since_seconds);
        let is_last = row.y + 1 == area.y + area.height;
        let more = found.len().saturating_sub(room);
        let more = if is_last && more > 0 {
            format!(" (and {more} more: key 1)")
        } else {
            String::new()
        };
        let told = format!(
            "! {} {} {whom} for {since}: {}",
            finding.finding.as_str(),
            text(&finding.app),
            text(&finding.evidence)
        );
        let columns = usize::from(area.width).saturating_sub(more.len());
        let line = format!("{}{more}", cut(&told, columns));
        frame.render_widget(Line::styled(line, theme.trouble()), row);
    }
}

/// The panes with their keys; the one that is shown is between brackets.
pub fn panes(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let name = |pane: Pane| format!("{} {}", pane.index() + 1, pane.title());
    let all: usize = Pane::ALL.into_iter().map(|pane| name(pane).len() + 1).sum();
    // With the brackets.
    let is_wide = all < usize::from(area.width);
    let part = |pane: Pane| {
        if pane == state.pane() {
            return Span::styled(format!("[{}] ", name(pane)), theme.title());
        }
        let name = if is_wide {
            name(pane)
        } else {
            // Its key alone.
            (pane.index() + 1).to_string()
        };
        Span::styled(format!("{name} "), theme.dim())
    };
    frame.render_widget(Line::from_iter(Pane::ALL.map(part)), area);
}
