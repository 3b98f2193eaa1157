//! Draws the state: a pure function. From top to bottom:
//!
//! ```text
//! title, source of the data, their age
//! lost events, masters below level full
//! the first findings
//! panes
//! rows of the pane, or an overlay
//! charts of the selected app
//! sort order, filter, keys
//! ```

pub mod charts;
pub mod format;
pub mod head;
pub mod overlay;
pub mod table;
pub mod theme;

use super::state::{Screen, State};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use theme::Theme;

/// A smaller terminal is refused.
pub const MIN_WIDTH: u16 = 40;
pub const MIN_HEIGHT: u16 = 10;

/// Lines that were drawn: see [`State::drawn`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    pub page: usize,
    pub lines: usize,
}

/// Draws the screen. `log` has the last log lines.
pub fn draw(frame: &mut Frame<'_>, state: &State, log: &[String], theme: Theme) -> Drawn {
    let area = frame.area();
    if area.width < MIN_WIDTH || area.height < MIN_HEIGHT {
        let text = format!(
            "too small\n{}x{}, needs\n{MIN_WIDTH}x{MIN_HEIGHT}",
            area.width, area.height
        );
        frame.render_widget(Paragraph::new(text), area);
        return Drawn::default();
    }
    let found = head::findings_height(state, area.height);
    let charts = match state.screen() {
        Screen::Table | Screen::Typing => charts::height(area.height),
        _ => 0,
    };
    let [title, health, findings, panes, body, charts, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(found),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(charts),
        Constraint::Length(1),
    ])
    .areas(area);
    head::title(frame, title, state, theme);
    head::health(frame, health, state, theme);
    head::findings(frame, findings, state, theme);
    head::panes(frame, panes, state, theme);
    charts::draw(frame, charts, state, theme);
    foot_line(frame, foot, state, theme);
    match state.screen() {
        Screen::Table | Screen::Typing => table::draw(frame, body, state, theme),
        screen => {
            let lines = overlay::lines(screen, state, log, theme);
            overlay::draw(frame, body, &lines, state.scroll())
        }
    }
}

/// Sort order, filter and keys.
fn foot_line(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    if state.is_typing() {
        let typed = Line::from(vec![
            Span::styled("filter: ", theme.title()),
            Span::raw(filter(state)),
            Span::styled(" ", theme.selected()),
            Span::styled("  Enter keeps it, Esc clears it", theme.dim()),
        ]);
        frame.render_widget(typed, area);
        return;
    }
    let mut parts = Vec::new();
    match state.screen() {
        Screen::Table => {
            let sort = state.sort();
            let title = state.pane().columns().get(sort.column);
            let title = title.map_or("", |column| column.title);
            let order = if sort.descending { "down" } else { "up" };
            parts.push(Span::raw(format!("sort {title} {order}")));
            if !state.filter().is_empty() {
                let text = format!("  filter \"{}\"", filter(state));
                parts.push(Span::styled(text, theme.title()));
            }
            if let Some(master) = state.only() {
                let text = format!("  only master {master}");
                parts.push(Span::styled(text, theme.title()));
            }
            parts.push(Span::styled(
                "  ? help  q quit  / filter  s sort  p pause  Enter opens",
                theme.dim(),
            ));
        }
        _ => parts.push(Span::styled(
            "Esc back  j k PgUp PgDn scroll  ? help  q quit",
            theme.dim(),
        )),
    }
    frame.render_widget(Line::from(parts), area);
}

fn filter(state: &State) -> String {
    super::rows::text(&state.filter().to_owned().into())
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
