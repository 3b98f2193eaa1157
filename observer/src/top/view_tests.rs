//! What is on the screen, as text.

use super::*;
use crate::top::columns::Pane;
use crate::top::input::{Action, KEYS, TYPING_KEYS};
use crate::top::state::Update;
use crate::top::test_views;
use crate::top::test_views::state;
use observer_model::views::live_view::View;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::path::Path;
use std::sync::Arc;

const PLAIN: Theme = Theme { has_colors: false };

fn terminal(width: u16, height: u16) -> Terminal<TestBackend> {
    Terminal::new(TestBackend::new(width, height)).unwrap()
}

/// The screen as lines, without the spaces at their ends.
fn screen(state: &mut State, width: u16, height: u16) -> String {
    let mut terminal = terminal(width, height);
    drawn(&mut terminal, state);
    text(&terminal)
}

fn drawn(terminal: &mut Terminal<TestBackend>, state: &mut State) {
    let mut drawn = Drawn::default();
    let log = ["WARN something".to_owned()];
    terminal
        .draw(|frame| drawn = draw(frame, state, &log, PLAIN))
        .unwrap();
    state.drawn(drawn.page, drawn.lines);
}

fn text(terminal: &Terminal<TestBackend>) -> String {
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.area.rows() {
        let cells = row.positions().map(|at| buffer[at].symbol());
        let line: String = cells.collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Compares with a file; `UPDATE_FIXTURES=1` writes it.
fn golden(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/fixtures");
    let path = path.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shown == expected,
        "not as in {} (UPDATE_FIXTURES=1 writes it anew):\n{shown}",
        path.display()
    );
}

#[test]
fn each_pane_looks_as_it_did() {
    for (width, height) in [(80, 24), (200, 60)] {
        for pane in Pane::ALL {
            let mut state = state(test_views::lossy_view());
            state.act(Action::Pane(pane));
            let name = pane.title().to_lowercase().replace(' ', "_");
            let shown = screen(&mut state, width, height);
            golden(&format!("{name}_{width}x{height}"), &shown);
        }
    }
}

#[test]
fn what_is_on_top_looks_as_it_did() {
    let mut state = state(test_views::view());
    state.act(Action::Help);
    golden("help_100x60", &screen(&mut state, 100, 60));
    state.act(Action::Log);
    golden("log_80x24", &screen(&mut state, 80, 24));
    state.act(Action::Pane(Pane::InProgress));
    state.act(Action::Open);
    let lines = [
        "Process 22072, CPython 3.11.7",
        "",
        "Thread 22072, main, serves GET /sleep",
    ];
    let frame = "    nap (/srv/reports/hangs.py:44)";
    let stack = lines.into_iter().chain([frame]).map(str::to_owned);
    let update = Update::Stack {
        pid: 22072,
        stack: Ok(stack.collect()),
    };
    state.take(update, 101.0);
    golden("stack_80x24", &screen(&mut state, 80, 24));
    state.act(Action::Pane(Pane::Errors));
    state.act(Action::Open);
    golden("detail_80x24", &screen(&mut state, 80, 24));
}

#[test]
fn nothing_is_known_at_first_and_a_lost_daemon_is_told() {
    let mut empty = State::new("of http://127.0.0.1:9918".to_owned(), None);
    assert!(screen(&mut empty, 80, 24).contains("waiting for data"));
    let mut state = state(test_views::view());
    state.take(Update::Lost("connection refused".to_owned()), 101.0);
    state.tick(112.0);
    let shown = screen(&mut state, 80, 24);
    assert!(
        shown.contains("LOST the daemon, data 12.0s old: connection"),
        "{shown}"
    );
    let mut state = test_views::state(test_views::view());
    state.tick(105.0);
    let shown = screen(&mut state, 80, 24);
    assert!(shown.contains("NOTHING NEW, data 5.00s old"), "{shown}");
}

#[test]
fn what_is_lost_or_not_covered_is_in_the_header_of_each_pane() {
    for pane in Pane::ALL {
        let mut state = state(test_views::lossy_view());
        state.act(Action::Pane(pane));
        let shown = screen(&mut state, 120, 24);
        let header = shown.lines().nth(1).unwrap();
        assert!(header.contains("LOST 7 ring_full: totals are lower bounds; NOT COVERED legacy"));
    }
}

#[test]
fn a_small_terminal_is_told_to_be_so() {
    for (width, height) in [(20, 5), (10, 3), (39, 24), (80, 9), (1, 1), (0, 0)] {
        let shown = screen(&mut state(test_views::view()), width, height);
        if width >= 10 {
            assert!(shown.starts_with("too small"), "{shown}");
        }
        assert!(!shown.contains("gunicorn"), "{shown}");
    }
    golden("small_20x5", &screen(&mut state(test_views::view()), 20, 5));
    golden(
        "least_40x10",
        &screen(&mut state(test_views::view()), MIN_WIDTH, MIN_HEIGHT),
    );
}

#[test]
fn help_has_each_key_and_each_column_of_the_pane() {
    for pane in Pane::ALL {
        let mut state = state(test_views::view());
        state.act(Action::Pane(pane));
        state.act(Action::Help);
        let shown = screen(&mut state, 160, 100);
        for key in KEYS.iter().chain(TYPING_KEYS) {
            assert!(shown.contains(&format!("{:<17} {}", key.names(), key.about)));
        }
        for column in pane.columns() {
            assert!(shown.contains(&format!("{:<17} {}", column.title, column.about)));
        }
    }
}

#[test]
fn without_colours_nothing_is_told_by_colour_alone() {
    let mut terminal = terminal(120, 30);
    let mut state = state(test_views::view());
    state.act(Action::Pane(Pane::Workers));
    drawn(&mut terminal, &mut state);
    let buffer = terminal.backend().buffer();
    let is_plain = |cell: &ratatui::buffer::Cell| {
        cell.fg == ratatui::style::Color::Reset && cell.bg == ratatui::style::Color::Reset
    };
    assert!(buffer.content.iter().all(is_plain));
    let shown = text(&terminal);
    for mark in ["\n>! ", "\n x ", "[3 Workers]"] {
        assert!(shown.contains(mark), "{mark:?}: {shown}");
    }
}

#[test]
fn hostile_names_cannot_drive_the_terminal() {
    for pane in Pane::ALL {
        for action in [Action::Pause, Action::Open] {
            let mut state = state(test_views::hostile_view());
            state.act(Action::Pane(pane));
            state.act(action);
            for (width, height) in [(40, 10), (80, 24), (200, 60)] {
                let shown = screen(&mut state, width, height);
                let is_bad = |c: char| {
                    c != '\n' && (c.is_control() || "\u{202e}\u{5d0}\u{200b}\u{301}".contains(c))
                };
                assert!(!shown.contains(is_bad), "{pane:?} {shown:?}");
                assert_eq!(shown.lines().count(), usize::from(height));
            }
        }
    }
}

/// docs/TOP.md.
#[test]
fn the_documentation_has_each_key_pane_and_column() {
    let doc = include_str!("../../../docs/TOP.md");
    let mut wanted = Vec::new();
    for key in KEYS.iter().chain(TYPING_KEYS) {
        let names: Vec<_> = key.names().split(' ').map(|it| format!("`{it}`")).collect();
        wanted.push(format!("| {} | {} |", names.join(" "), key.about));
    }
    for pane in Pane::ALL {
        wanted.push(format!("### {}\n\n{}.\n", pane.title(), pane.about()));
        for column in pane.columns() {
            wanted.push(format!("| {} | {} |", column.title, column.about));
        }
    }
    let missing: Vec<_> = wanted.iter().filter(|it| !doc.contains(*it)).collect();
    assert!(missing.is_empty(), "docs/TOP.md lacks:\n{missing:#?}");
}

#[derive(Clone, Debug)]
enum Step {
    Act(Action),
    Resize(u16, u16),
    View(u8),
    Lost,
    Stack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let actions = KEYS.iter().chain(TYPING_KEYS).map(|key| key.action);
    let actions: Vec<_> = actions.filter(|it| *it != Action::Quit).collect();
    let step = prop_oneof![
        8 => proptest::sample::select(actions).prop_map(Step::Act),
        1 => any::<char>().prop_map(|c| Step::Act(Action::Type(c))),
        2 => (0..120u16, 0..50u16).prop_map(|(width, height)| Step::Resize(width, height)),
        2 => (0..4u8).prop_map(Step::View),
        1 => Just(Step::Lost),
        1 => Just(Step::Stack),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_pressed_and_comes_is_drawn(steps in steps()) {
        let views = [View::default(), test_views::view(), test_views::lossy_view(), test_views::hostile_view()];
        let views = views.map(Arc::new);
        let mut state = State::new("own probes".to_owned(), None);
        let mut terminal = terminal(80, 24);
        for (at, step) in (0u32..).zip(steps) {
            let now = f64::from(at);
            match step {
                Step::Act(action) => _ = state.act(action),
                Step::Resize(width, height) => {
                    terminal.backend_mut().resize(width, height);
                    terminal.autoresize().unwrap();
                }
                Step::View(which) => {
                    let view = Arc::clone(&views[usize::from(which)]);
                    state.take(Update::View(view), now);
                }
                Step::Lost => _ = state.take(Update::Lost("gone".to_owned()), now),
                Step::Stack => {
                    let lines = vec!["Thread 1".to_owned(), "    f (".repeat(100)];
                    state.take(Update::Stack { pid: 22072, stack: Ok(lines) }, now);
                }
            }
            state.tick(now);
            drawn(&mut terminal, &mut state);
        }
    }
}
