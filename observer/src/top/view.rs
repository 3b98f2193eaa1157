//! How the state looks: a pure function of it. From top to bottom:
//!
//! ```text
//! what it is, where its data come from, how old they are
//! what is lost or not covered
//! findings, the first of them
//! panes
//! rows of the pane, or what is on top of them
//! charts of the app that is selected
//! keys, filter, sort
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

/// Less than that shows nothing of use.
pub const MIN_WIDTH: u16 = 40;
pub const MIN_HEIGHT: u16 = 10;

/// How much room there was: see [`State::drawn`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    pub page: usize,
    pub lines: usize,
}

/// Draws all of it. `log` is what was logged.
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

/// What can be done here, and by what rows are chosen and sorted.
fn foot_line(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    if state.is_typing() {
        let typed = Line::from(vec![
            Span::styled("filter: ", theme.title()),
            Span::raw(super::rows::text(state.filter())),
            Span::styled(" ", theme.selected()),
            Span::styled("  Enter keeps it, Esc drops it", theme.dim()),
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
                let filter = super::rows::text(state.filter());
                parts.push(Span::styled(
                    format!("  filter \"{filter}\""),
                    theme.title(),
                ));
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

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
