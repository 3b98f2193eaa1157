//! Views for tests: a daemon's view of two apps, one of them with a stuck worker; and the same view
//! with text everywhere that could drive the terminal.

use super::state::{State, Update};
use observer_model::views::live_view::LiveView;
use observer_model::views::live_view::history::History;
use std::sync::Arc;

/// The view of a real daemon.
pub fn view() -> LiveView {
    serde_json::from_str(include_str!("fixtures/view.json")).unwrap()
}

pub fn history() -> History {
    serde_json::from_str(include_str!("fixtures/history.json")).unwrap()
}

/// With lost events and a master below level `full`.
pub fn lossy_view() -> LiveView {
    let mut view = view();
    view.observer.lost.insert("ring_full".into(), 7);
    view.observer
        .limited
        .push(observer_model::views::live_view::Limited {
            pid: 77,
            app: "legacy".into(),
            level: "socket".into(),
            reason: "CPython 2.7 is not supported".into(),
        });
    view
}

/// Characters that drive a terminal, reverse text, or have a width of zero or two.
pub const HOSTILE: &str =
    "x\x1b]0;owned\x07\x1b[2J\u{9b}31m\r\n\t\u{202e}\u{5d0}\u{200b}\u{301}日本語e\u{301}👩‍👩‍👧";

/// A view in which each text is hostile and long.
pub fn hostile_view() -> LiveView {
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
                    // Enums.
                    (
                        "finding" | "urgency" | "state" | "reason" | "restart_type",
                        Value::String(was),
                    ) if was.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {}
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

/// The state with a view and the history.
pub fn state(view: LiveView) -> State {
    let mut state = State::new("own probes".to_owned(), None);
    assert!(state.take(Update::History(history()), 100.0));
    assert!(state.take(Update::View(Arc::new(view)), 100.0));
    state
}
