//! What is on a terminal, as a page that a browser shows: for pictures of `top`.

use std::{fmt::Write as _, path::Path};

use anyhow::Result;

use crate::tmux::Tmux;

/// The screen of this program's `top` with these arguments as a page, on a terminal of this size, after
/// `keys` (tmux's names), once the screen is as wanted.
pub fn of_top(
    program: &Path,
    arguments: &str,
    (columns, lines): (u16, u16),
    keys: &[&str],
    wanted: impl Fn(&str) -> bool,
) -> Result<String> {
    let tmux = Tmux::start(columns, lines)?;
    tmux.run_top_of(program, "", arguments)?;
    tmux.wait_for("the masters", |screen| {
        screen.contains("masters observed") || screen.contains("NOT COVERED")
    })?;
    tmux.press(keys)?;
    tmux.wait_for("what is wanted", wanted)?;
    let page = page(&tmux.colored_screen()?);
    tmux.press(&["q"])?;
    tmux.is_given_back(0)?;
    Ok(page)
}

const HEAD: &str = "<!doctype html>
<meta charset=\"utf-8\">
<title>gunicorn-observer top</title>
<style>
body { margin: 0; background: #14161a; }
pre { margin: 0; padding: 16px; display: inline-block; color: #d6d8dc;
      font: 14px/1.2 'DejaVu Sans Mono', 'Liberation Mono', monospace; }
</style>
<pre>";

/// The colours 0 to 15 of a terminal.
const COLORS: [&str; 16] = [
    "#14161a", "#e5534b", "#57ab5a", "#c69026", "#539bf5", "#b083f0", "#39c5cf", "#d6d8dc",
    "#7d8590", "#ff6b63", "#6bc46d", "#daaa3f", "#6cb6ff", "#dcbdfb", "#56d4dd", "#ffffff",
];

/// A style of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Style {
    color: Option<usize>,
    bold: bool,
    reverse: bool,
}

/// A page of a screen that tmux printed with its escapes (`capture-pane -e`).
#[must_use]
pub fn page(screen: &str) -> String {
    let mut page = HEAD.to_owned();
    let mut style = Style::default();
    let mut parts = screen.trim_end().split("\x1b[");
    write_styled(&mut page, style, parts.next().unwrap_or_default());
    for part in parts {
        // It makes no other ones than those of colours.
        let (codes, text) = part.split_once('m').unwrap_or(("", part));
        style.apply(codes);
        write_styled(&mut page, style, text);
    }
    page.push_str("</pre>\n");
    page
}

impl Style {
    fn apply(&mut self, codes: &str) {
        let mut codes = codes.split(';').map(|code| code.parse().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                7 => self.reverse = true,
                22 => self.bold = false,
                27 => self.reverse = false,
                30..=37 => self.color = Some(code - 30),
                90..=97 => self.color = Some(code - 90 + 8),
                38 if codes.next() == Some(5) => self.color = codes.next().map(|it| it % 16),
                39 => self.color = None,
                _ => {}
            }
        }
    }
}

fn write_styled(page: &mut String, style: Style, text: &str) {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    if style == Style::default() || text.is_empty() {
        page.push_str(&text);
        return;
    }
    let color = style.color.and_then(|at| COLORS.get(at));
    let color = *color.unwrap_or(&COLORS[7]);
    let (fore, back) = if style.reverse {
        (COLORS[0], color)
    } else {
        (color, "transparent")
    };
    let weight = if style.bold { "bold" } else { "normal" };
    // A `String` takes all that is written.
    let _ = write!(
        page,
        "<span style=\"color:{fore};background:{back};font-weight:{weight}\">{text}</span>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_shown_with_its_colours_and_nothing_of_it_is_markup() {
        let page = page("a <b>\n\x1b[1m\x1b[31mred\x1b[0m \x1b[7mback\x1b[39;27;38;5;12mblue\n\n");
        let body = page.strip_prefix(HEAD).unwrap();
        assert_eq!(
            body,
            "a &lt;b&gt;\n\
             <span style=\"color:#e5534b;background:transparent;font-weight:bold\">red</span> \
             <span style=\"color:#14161a;background:#d6d8dc;font-weight:normal\">back</span>\
             <span style=\"color:#6cb6ff;background:transparent;font-weight:normal\">blue</span>\
             </pre>\n"
        );
    }
}
