//! The rows of a pane.

use super::Drawn;
use super::format::{cut, value};
use super::theme::Theme;
use crate::top::columns::{Column, Width};
use crate::top::rows::{Mark, Row};
use crate::top::state::State;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Before each row: whether it is selected, and what is to be seen of it at a glance.
const MARK_COLUMNS: u16 = 3;

/// A column that is shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    index: usize,
    column: Column,
    width: u16,
}

/// Draws the rows around the one that is selected.
pub fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) -> Drawn {
    let [head, body] = split(area);
    let columns = fitting(
        state.pane().columns(),
        area.width.saturating_sub(MARK_COLUMNS),
    );
    frame.render_widget(titles(&columns, state, theme), head);
    let rows = state.rows();
    let page = usize::from(body.height);
    if rows.is_empty() {
        let text = match (state.view(), state.filter()) {
            (None, _) => "   nothing is known yet",
            (_, "") => "   nothing",
            _ => "   nothing that the filter lets through",
        };
        frame.render_widget(Line::styled(text, theme.dim()), body);
    }
    let selected = state.selected_index();
    // Whole pages, so that rows do not run away below the eyes.
    let first = selected - selected % page.max(1);
    for (line, (index, row)) in body.rows().zip(rows.iter().enumerate().skip(first)) {
        let is_selected = index == selected;
        frame.render_widget(row_line(&columns, row, is_selected, theme), line);
        if is_selected {
            frame.buffer_mut().set_style(line, theme.selected());
        }
    }
    Drawn {
        page,
        lines: rows.len(),
    }
}

fn split(area: Rect) -> [Rect; 2] {
    let head = Rect {
        height: area.height.min(1),
        ..area
    };
    let body = Rect {
        y: area.y + head.height,
        height: area.height - head.height,
        ..area
    };
    [head, body]
}

/// The columns that have room, each with a space after it.
fn fitting(columns: &[Column], room: u16) -> Vec<Shown> {
    let least = |column: &Column| match column.width {
        Width::Number(width) | Width::Text(width) | Width::Rest(width) => width,
    };
    let shown = columns.iter().enumerate().map(|(index, &column)| Shown {
        index,
        column,
        width: least(&column),
    });
    let mut shown: Vec<_> = shown.collect();
    let all = |shown: &[Shown]| shown.iter().map(|it| it.width + 1).sum::<u16>();
    while all(&shown) > room && shown.len() > 1 {
        let ranks = shown.iter().enumerate().rev();
        let last = ranks.min_by_key(|(_, it)| it.column.rank);
        match last {
            Some((at, _)) => _ = shown.remove(at),
            None => break,
        }
    }
    let left = room.saturating_sub(all(&shown));
    let takes = |it: &Shown| matches!(it.column.width, Width::Rest(_));
    let takers = u16::try_from(shown.iter().filter(|it| takes(it)).count()).unwrap_or(1);
    for it in shown.iter_mut().filter(|it| takes(it)) {
        it.width += left / takers.max(1);
    }
    shown
}

fn titles(columns: &[Shown], state: &State, theme: Theme) -> Line<'static> {
    let sort = state.sort();
    let mut text = " ".repeat(MARK_COLUMNS.into());
    for it in columns {
        let title = it.column.title;
        let is_sorted = it.index == sort.column;
        let arrow = match (is_sorted, sort.descending) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        let width = usize::from(it.width);
        match it.column.width {
            Width::Number(_) if title.len() < width => {
                text.push_str(&format!("{:>width$} ", format!("{arrow}{title}")));
            }
            // In the place of the space after it.
            Width::Number(_) => text.push_str(&format!("{title}{arrow:1}")),
            Width::Text(_) | Width::Rest(_) => {
                let width = width + 1;
                text.push_str(&format!("{:<width$}", format!("{title}{arrow}")));
            }
        }
    }
    Line::styled(text, theme.title())
}

fn row_line(columns: &[Shown], row: &Row, is_selected: bool, theme: Theme) -> Line<'static> {
    let pointer = if is_selected { '>' } else { ' ' };
    let (mark, style) = match row.mark {
        Mark::Normal => (' ', Style::new()),
        Mark::Trouble => ('!', theme.trouble()),
        Mark::Ended => ('x', theme.dim()),
    };
    let mut text = format!("{pointer}{mark} ");
    for it in columns {
        let shown = row.values.get(it.index).map_or_else(String::new, value);
        text.push_str(&padded(&shown, *it));
    }
    Line::from(Span::styled(text, style))
}

/// Cut or filled to the column, with a space after it.
fn padded(text: &str, column: Shown) -> String {
    let width = usize::from(column.width);
    let text = cut(text, width);
    let room = width.saturating_sub(Span::raw(&text).width());
    let space = " ".repeat(room);
    match column.column.width {
        Width::Number(_) => format!("{space}{text} "),
        Width::Text(_) | Width::Rest(_) => format!("{text}{space} "),
    }
}
