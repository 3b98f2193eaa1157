//! Keys and their actions: one table, which input, the help screen and docs/TOP.md share.

use super::columns::Pane;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// An action of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Quit,
    /// Closes the overlay; else clears the filter; else shows all apps again.
    Back,
    Help,
    Log,
    Pane(Pane),
    NextPane,
    PreviousPane,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    NextColumn,
    PreviousColumn,
    Reverse,
    Filter,
    Pause,
    Open,
    /// Adds to the filter.
    Type(char),
    Erase,
    EraseAll,
    Accept,
}

/// A key, with or without Ctrl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    code: KeyCode,
    ctrl: bool,
}

/// Keys for one action.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    pub keys: &'static [Key],
    pub action: Action,
    pub about: &'static str,
}

const fn key(code: KeyCode) -> Key {
    Key { code, ctrl: false }
}

const fn char(c: char) -> Key {
    key(KeyCode::Char(c))
}

const fn ctrl(c: char) -> Key {
    Key {
        code: KeyCode::Char(c),
        ctrl: true,
    }
}

const fn bound(keys: &'static [Key], action: Action, about: &'static str) -> Binding {
    Binding {
        keys,
        action,
        about,
    }
}

const fn pane(keys: &'static [Key], pane: Pane, about: &'static str) -> Binding {
    bound(keys, Action::Pane(pane), about)
}

/// Keys while a pane or an overlay is shown.
pub const KEYS: &[Binding] = &[
    pane(
        &[char('1')],
        Pane::Findings,
        "findings, lost events, masters below level `full`",
    ),
    pane(&[char('2')], Pane::Apps, "apps"),
    pane(&[char('3')], Pane::Workers, "workers"),
    pane(&[char('4')], Pane::Routes, "routes"),
    pane(&[char('5')], Pane::Errors, "errors"),
    pane(&[char('6')], Pane::InProgress, "requests in progress"),
    pane(&[char('7')], Pane::Slowest, "slowest requests"),
    pane(
        &[char('8')],
        Pane::Exits,
        "starts and exits of workers and masters",
    ),
    bound(
        &[key(KeyCode::Tab), key(KeyCode::Right), char('l')],
        Action::NextPane,
        "next pane",
    ),
    bound(
        &[key(KeyCode::BackTab), key(KeyCode::Left), char('h')],
        Action::PreviousPane,
        "previous pane",
    ),
    bound(&[key(KeyCode::Up), char('k')], Action::Up, "up"),
    bound(&[key(KeyCode::Down), char('j')], Action::Down, "down"),
    bound(
        &[key(KeyCode::PageUp), ctrl('b')],
        Action::PageUp,
        "page up",
    ),
    bound(
        &[key(KeyCode::PageDown), ctrl('f')],
        Action::PageDown,
        "page down",
    ),
    bound(&[key(KeyCode::Home), char('g')], Action::First, "first"),
    bound(&[key(KeyCode::End), char('G')], Action::Last, "last"),
    bound(
        &[key(KeyCode::Enter)],
        Action::Open,
        "open: the workers of an app, the Python stack of a worker or request in progress, else the whole row",
    ),
    bound(&[char('s')], Action::NextColumn, "sort by the next column"),
    bound(
        &[char('S')],
        Action::PreviousColumn,
        "sort by the previous column",
    ),
    bound(&[char('r')], Action::Reverse, "reverse the order"),
    bound(
        &[char('/')],
        Action::Filter,
        "filter rows by a text, a pid or a status",
    ),
    bound(&[char('p'), char(' ')], Action::Pause, "pause and resume"),
    bound(&[char('L')], Action::Log, "log of the observer"),
    bound(&[char('?'), key(KeyCode::F(1))], Action::Help, "this help"),
    bound(
        &[key(KeyCode::Esc)],
        Action::Back,
        "close; else clear the filter; else show all apps",
    ),
    bound(&[char('q'), ctrl('c')], Action::Quit, "quit"),
];

/// Keys while a filter is typed; any other character becomes part of it.
pub const TYPING_KEYS: &[Binding] = &[
    bound(&[key(KeyCode::Enter)], Action::Accept, "keep the filter"),
    bound(&[key(KeyCode::Esc)], Action::Back, "clear the filter"),
    bound(
        &[key(KeyCode::Backspace), ctrl('h')],
        Action::Erase,
        "erase the last character",
    ),
    bound(&[ctrl('u')], Action::EraseAll, "erase the whole filter"),
    bound(&[ctrl('c')], Action::Quit, "quit"),
];

/// The action of a key, if it has one.
#[must_use]
pub fn action(event: KeyEvent, typing: bool) -> Option<Action> {
    if event.kind == KeyEventKind::Release || event.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    let pressed = Key {
        code: event.code,
        ctrl: event.modifiers.contains(KeyModifiers::CONTROL),
    };
    let table = if typing { TYPING_KEYS } else { KEYS };
    let bound = table.iter().find(|bound| bound.keys.contains(&pressed));
    match (bound, pressed) {
        (Some(bound), _) => Some(bound.action),
        (
            None,
            Key {
                code: KeyCode::Char(c),
                ctrl: false,
            },
        ) if typing => Some(Action::Type(c)),
        _ => None,
    }
}

impl Binding {
    /// Names of its keys, as on a keyboard.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<_> = self.keys.iter().map(|key| key.name()).collect();
        names.join(" ")
    }
}

impl Key {
    fn name(self) -> String {
        let name = match self.code {
            KeyCode::Char(' ') => "Space".to_owned(),
            KeyCode::Char(c) if self.ctrl => c.to_uppercase().to_string(),
            KeyCode::Char(c) => c.to_string(),
            KeyCode::BackTab => "Shift-Tab".to_owned(),
            KeyCode::PageUp => "PgUp".to_owned(),
            KeyCode::PageDown => "PgDn".to_owned(),
            KeyCode::F(number) => format!("F{number}"),
            code => format!("{code:?}"),
        };
        if self.ctrl {
            format!("Ctrl-{name}")
        } else {
            name
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: Key) -> KeyEvent {
        let modifiers = match (key.ctrl, key.code) {
            (true, _) => KeyModifiers::CONTROL,
            // As terminals send capitals.
            (false, KeyCode::Char(c)) if c.is_uppercase() => KeyModifiers::SHIFT,
            _ => KeyModifiers::NONE,
        };
        KeyEvent::new(key.code, modifiers)
    }

    #[test]
    fn each_key_has_the_action_of_the_table() {
        for (table, typing) in [(KEYS, false), (TYPING_KEYS, true)] {
            for bound in table {
                for &key in bound.keys {
                    assert_eq!(action(event(key), typing), Some(bound.action), "{key:?}");
                }
            }
        }
    }

    #[test]
    fn each_pane_has_the_key_of_its_number() {
        for (index, pane) in Pane::ALL.into_iter().enumerate() {
            let digit = char::from_digit(u32::try_from(index + 1).unwrap(), 10).unwrap();
            let wanted = Some(Action::Pane(pane));
            assert_eq!(action(event(char(digit)), false), wanted);
        }
    }

    #[test]
    fn characters_are_text_while_a_filter_is_typed() {
        for c in ['q', 's', '/', '?', 'ä', '1'] {
            assert_eq!(action(event(char(c)), true), Some(Action::Type(c)));
        }
        assert_eq!(action(event(ctrl('c')), true), Some(Action::Quit));
        assert_eq!(action(event(ctrl('x')), true), None);
        assert_eq!(action(event(ctrl('q')), false), None);
        let released = KeyEvent {
            kind: KeyEventKind::Release,
            ..event(char('q'))
        };
        assert_eq!(action(released, false), None);
    }

    #[test]
    fn keys_have_the_names_on_keyboards() {
        let names: Vec<_> = KEYS.iter().map(Binding::names).collect();
        for name in [
            "Tab Right l",
            "Shift-Tab Left h",
            "p Space",
            "? F1",
            "PgUp Ctrl-B",
            "q Ctrl-C",
        ] {
            assert!(names.iter().any(|it| it == name), "{name}: {names:?}");
        }
    }
}
