//! Views for tests: what a daemon told of two apps, one of them with a stuck worker; and the same of
//! somebody who gives everything a name that could drive the terminal.

use super::state::{State, Update};
use observer_model::views::live_view::View;
use observer_model::views::live_view::history::History;
use std::sync::Arc;

/// What a real daemon told.
pub fn view() -> View {
    serde_json::from_str(include_str!("fixtures/view.json")).unwrap()
}

pub fn history() -> History {
    serde_json::from_str(include_str!("fixtures/history.json")).unwrap()
}

/// With losses, and a master that is not covered.
pub fn lossy_view() -> View {
    let mut view = view();
    view.observer.lost.insert("ring_full".to_owned(), 7);
    view.observer
        .limited
        .push(observer_model::views::live_view::Limited {
            pid: 77,
            app: "legacy".to_owned(),
            level: "socket".to_owned(),
            reason: "CPython 2.7 is not supported".to_owned(),
        });
    view
}

/// Whatever drives a terminal, turns text around, or has no width or two.
pub const HOSTILE: &str =
    "x\x1b]0;owned\x07\x1b[2J\u{9b}31m\r\n\t\u{202e}\u{5d0}\u{200b}\u{301}日本語e\u{301}👩‍👩‍👧";

/// Each text of it is hostile and long.
pub fn hostile_view() -> View {
    let text = serde_json::to_string(&HOSTILE.repeat(20)).unwrap();
    let text = &text[1..text.len() - 1];
    let mut json = serde_json::to_value(lossy_view()).unwrap();
    poison(&mut json, text);
    serde_json::from_value(json).unwrap()
}

fn poison(json: &mut serde_json::Value, text: &str) {
    use serde_json::Value;
    match json {
        Value::Array(values) => values.iter_mut().for_each(|it| poison(it, text)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), &value) {
                    // They are read back as one of a few.
                    ("finding" | "state" | "reason" | "restart_type", Value::String(was))
                        if was.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {}
                    (_, Value::String(_)) => {
                        *value = serde_json::from_str(&format!("\"{text}\"")).unwrap();
                    }
                    _ => poison(value, text),
                }
            }
        }
        _ => {}
    }
}

/// What shows a view and the history.
pub fn state(view: View) -> State {
    let mut state = State::new("own probes".to_owned(), None);
    assert!(state.take(Update::History(history()), 100.0));
    assert!(state.take(Update::View(Arc::new(view)), 100.0));
    state
}
