//! What is on top of the rows: help, the log, a stack, a whole row.

use super::Drawn;
use super::format::value;
use super::theme::Theme;
use crate::top::input::{Binding, KEYS, TYPING_KEYS};
use crate::top::state::{Screen, State};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Columns of the names of keys and of titles.
const NAME_COLUMNS: usize = 17;
/// Columns before what is left of a line that is too long.
const GO_ON_COLUMNS: usize = 4;

/// The lines of what is on top.
#[must_use]
pub fn lines(screen: &Screen, state: &State, log: &[String], theme: Theme) -> Vec<Line<'static>> {
    match screen {
        Screen::Table | Screen::Typing => Vec::new(),
        Screen::Help => help(state, theme),
        Screen::Log => {
            let mut lines = vec![Line::styled("Log, the latest last", theme.title())];
            if log.is_empty() {
                lines.push(Line::raw("nothing was logged"));
            }
            lines.extend(log.iter().cloned().map(Line::raw));
            lines
        }
        Screen::Stack(pid) => stack(*pid, state, theme),
        Screen::Detail(values) => values
            .iter()
            .map(|(title, it)| named(title, value(it), theme))
            .collect(),
    }
}

fn named(name: &str, text: String, theme: Theme) -> Line<'static> {
    let name = format!("{name:<NAME_COLUMNS$} ");
    Line::from(vec![Span::styled(name, theme.title()), Span::raw(text)])
}

fn help(state: &State, theme: Theme) -> Vec<Line<'static>> {
    let head = |text: String| Line::styled(text, theme.title());
    let keys = |table: &'static [Binding]| {
        let line = |key: &Binding| named(&key.names(), key.about.to_owned(), theme);
        table.iter().map(line)
    };
    let mut lines = vec![head("Keys".to_owned())];
    lines.extend(keys(KEYS));
    lines.extend([Line::raw(""), head("While a filter is typed".to_owned())]);
    lines.extend(keys(TYPING_KEYS));
    let pane = state.pane();
    let title = format!("{}: {}", pane.title(), pane.about());
    lines.extend([Line::raw(""), head(title)]);
    let columns = pane.columns().iter();
    lines.extend(columns.map(|it| named(it.title, it.about.to_owned(), theme)));
    lines.extend([
        Line::raw(""),
        Line::raw(
            "Rows: > is selected, ! there is a finding about it, x has ended. - is not known.",
        ),
    ]);
    lines
}

fn stack(pid: u32, state: &State, theme: Theme) -> Vec<Line<'static>> {
    match state.stack() {
        None => vec![Line::raw(format!("reading the stack of {pid}"))],
        Some(Err(why)) => vec![Line::styled(why.clone(), theme.trouble())],
        Some(Ok(lines)) => {
            let styled = |line: &String| {
                let is_head = !line.starts_with(' ');
                let style = if is_head { theme.title() } else { Style::new() };
                Line::styled(line.clone(), style)
            };
            lines.iter().map(styled).collect()
        }
    }
}

/// Draws them from the one numbered `scroll` on.
pub fn draw(frame: &mut Frame<'_>, area: Rect, lines: &[Line<'_>], scroll: usize) -> Drawn {
    let wrapped: Vec<_> = lines
        .iter()
        .flat_map(|line| wrapped(line, area.width.into()))
        .collect();
    for (row, line) in area.rows().zip(wrapped.iter().skip(scroll)) {
        frame.render_widget(line, row);
    }
    Drawn {
        page: area.height.into(),
        lines: wrapped.len(),
    }
}

/// A line as lines of so many columns, broken where words end if they do; those that go on are
/// indented by more than it is.
fn wrapped(line: &Line<'_>, columns: usize) -> Vec<Line<'static>> {
    let styled = line.spans.iter().flat_map(|span| {
        let style = line.style.patch(span.style);
        span.content.chars().map(move |c| (c, style))
    });
    let mut left: Vec<(char, Style)> = styled.collect();
    let indent = left.iter().take_while(|(c, _)| *c == ' ').count() + GO_ON_COLUMNS;
    let indent = if indent < columns / 3 { indent } else { 0 };
    let mut lines = Vec::new();
    loop {
        let before = if lines.is_empty() { 0 } else { indent };
        let mut width = before;
        let fits = left.iter().take_while(|(c, _)| {
            width += Span::raw(c.to_string()).width();
            width <= columns
        });
        let fits = fits.count();
        let push = |lines: &mut Vec<Line<'static>>, chars: &[(char, Style)]| {
            let mut line = joined(chars);
            line.spans.insert(0, Span::raw(" ".repeat(before)));
            lines.push(line);
        };
        if fits == left.len() || left.len() < 2 {
            push(&mut lines, &left);
            return lines;
        }
        let space = left[..fits].iter().rposition(|(c, _)| *c == ' ');
        let is_indent = |at: &usize| left[..*at].iter().all(|(c, _)| *c == ' ');
        let at = space.filter(|at| !is_indent(at)).map_or(fits, |at| at + 1);
        let rest = left.split_off(at.max(1));
        push(&mut lines, &left);
        left = rest;
    }
}

/// Characters of one style as one span.
fn joined(chars: &[(char, Style)]) -> Line<'static> {
    let spans = chars.chunk_by(|(_, one), (_, other)| one == other);
    let spans = spans.map(|same| {
        let text: String = same.iter().map(|(c, _)| *c).collect();
        let style = same.first().map_or(Style::new(), |(_, style)| *style);
        Span::styled(text, style)
    });
    Line::from(spans.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, columns: usize) -> Vec<String> {
        let lines = wrapped(&Line::raw(text.to_owned()), columns);
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lines_are_broken_where_words_end_if_they_do() {
        assert_eq!(texts("one two three", 8), ["one two ", "three"]);
        assert_eq!(texts("    abcdefgh", 8), ["    abcd", "efgh"]);
        assert_eq!(
            texts("one two three four", 15),
            ["one two three ", "    four"]
        );
        assert_eq!(texts("日本語", 4), ["日本", "語"]);
        assert_eq!(texts("ab", 0), ["a", "b"]);
        assert_eq!(texts("", 5), [""]);
    }
}
