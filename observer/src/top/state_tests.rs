//! Keys and what comes, and what is shown then.

use super::*;
use crate::top::test_views;
use crate::top::test_views::state;

const MASTER: Pid = 19624;
const STUCK: Pid = 22072;

fn acted(state: &mut State, actions: &[Action]) {
    for &action in actions {
        assert!(state.act(action), "{action:?}");
    }
}

fn typed(state: &mut State, text: &str) {
    acted(state, &[Action::Filter]);
    for c in text.chars() {
        acted(state, &[Action::Type(c)]);
    }
    acted(state, &[Action::Accept]);
}

fn workers(state: &State) -> Vec<Option<Pid>> {
    state.rows().iter().map(|row| row.worker).collect()
}

#[test]
fn panes_are_gone_through_and_round() {
    let mut state = state(test_views::view());
    for pane in Pane::ALL.into_iter().cycle().skip(2).take(20) {
        acted(&mut state, &[Action::NextPane]);
        assert_eq!(state.pane(), pane);
        let columns = pane.columns().len();
        assert!(state.rows().iter().all(|row| row.values.len() == columns));
    }
    acted(
        &mut state,
        &[Action::Pane(Pane::Findings), Action::PreviousPane],
    );
    assert_eq!(state.pane(), Pane::Ends);
}

#[test]
fn what_is_selected_stays_so_wherever_it_goes() {
    let mut state = state(test_views::view());
    acted(&mut state, &[Action::Pane(Pane::Workers), Action::Down]);
    let selected = state.selected().unwrap().id.clone();
    acted(&mut state, &[Action::Reverse]);
    assert_eq!(state.selected().unwrap().id, selected);
    let mut view = test_views::view();
    view.apps.reverse();
    state.take(Update::View(Arc::new(view)), 101.0);
    assert_eq!(state.selected().unwrap().id, selected);
    // It has gone.
    state.take(Update::View(Arc::new(View::default())), 102.0);
    assert!(state.selected().is_none());
    acted(&mut state, &[Action::Down, Action::Last, Action::Open]);
}

#[test]
fn rows_are_sorted_by_the_column_and_the_way_round_that_is_wanted() {
    let mut state = state(test_views::view());
    acted(&mut state, &[Action::Pane(Pane::Routes)]);
    let column = |state: &State| Pane::Routes.columns()[state.sort().column].title;
    assert_eq!(column(&state), "TIME");
    acted(&mut state, &[Action::First]);
    acted(&mut state, &[Action::PreviousColumn; 5]);
    assert_eq!(column(&state), "REQUESTS");
    let counts = |state: &State| -> Vec<u64> {
        let rows = state.rows().iter();
        rows.map(|row| match row.values[2] {
            Value::Count(count) => count,
            ref other => panic!("{other:?}"),
        })
        .collect()
    };
    assert!(counts(&state).is_sorted_by(|one, other| one >= other));
    acted(&mut state, &[Action::Reverse]);
    assert!(counts(&state).is_sorted());
    // Each pane has its own.
    acted(&mut state, &[Action::Pane(Pane::Workers)]);
    assert_eq!(state.sort(), Pane::Workers.sort());
    acted(&mut state, &[Action::Pane(Pane::Routes)]);
    assert_eq!(column(&state), "REQUESTS");
}

#[test]
fn what_is_not_known_is_last_either_way() {
    let mut state = state(test_views::view());
    acted(&mut state, &[Action::Pane(Pane::Workers)]);
    for _ in 0..2 {
        acted(&mut state, &[Action::Reverse]);
        let last = state.rows().last().unwrap();
        assert_eq!(last.values[state.sort().column], Value::Unknown);
    }
}

#[test]
fn a_filter_leaves_what_holds_it_until_it_is_dropped() {
    let mut state = state(test_views::view());
    acted(&mut state, &[Action::Pane(Pane::Workers)]);
    let all = state.rows().len();
    typed(&mut state, &STUCK.to_string());
    assert_eq!(workers(&state), [Some(STUCK)]);
    acted(&mut state, &[Action::Filter, Action::EraseAll]);
    for c in "SHO".chars() {
        acted(&mut state, &[Action::Type(c)]);
    }
    assert!(state.is_typing());
    assert_eq!(state.rows().len(), 3);
    acted(&mut state, &[Action::Type('x')]);
    assert!(state.rows().is_empty());
    acted(&mut state, &[Action::Erase, Action::Accept]);
    assert_eq!((state.filter(), state.is_typing()), ("SHO", false));
    acted(&mut state, &[Action::Back]);
    assert_eq!((state.filter(), state.rows().len()), ("", all));
    acted(
        &mut state,
        &[Action::Filter, Action::Type('z'), Action::Back],
    );
    assert_eq!((state.filter(), state.rows().len()), ("", all));
    // A status is found as a whole.
    acted(&mut state, &[Action::Pane(Pane::Errors)]);
    typed(&mut state, "500");
    assert_eq!(state.rows().len(), 4);
    acted(&mut state, &[Action::Back]);
    typed(&mut state, "50");
    assert!(state.rows().is_empty());
    typed(&mut state, "\n".repeat(1000).as_str());
    assert_eq!(state.filter(), "50");
}

#[test]
fn an_app_opens_its_workers_and_back_leads_to_all() {
    let mut state = state(test_views::view());
    assert_eq!(state.selected().unwrap().master, MASTER);
    acted(&mut state, &[Action::Open]);
    assert_eq!((state.pane(), state.only()), (Pane::Workers, Some(MASTER)));
    assert_eq!(state.rows().len(), 3);
    acted(&mut state, &[Action::Pane(Pane::Slowest)]);
    assert!(state.rows().iter().all(|row| row.master == MASTER));
    acted(&mut state, &[Action::Back]);
    assert_eq!(state.only(), None);
    assert_eq!(state.rows().len(), 20);
}

#[test]
fn a_stack_is_wanted_while_it_is_on_top() {
    let mut state = state(test_views::view());
    acted(&mut state, &[Action::Pane(Pane::InProgress), Action::Open]);
    assert_eq!(state.screen(), &Screen::Stack(STUCK));
    assert_eq!(state.wanted_stack(), Some((STUCK, 21747)));
    assert_eq!(state.stack(), None);
    let stack = |pid, line: &str| Update::Stack {
        pid,
        stack: Ok(vec![line.to_owned()]),
    };
    state.take(stack(STUCK, "nap"), 101.0);
    // Of one that was looked at before.
    state.take(stack(1, "other"), 101.0);
    assert_eq!(state.stack(), Some(&Ok(vec!["nap".to_owned()])));
    acted(&mut state, &[Action::Pause]);
    assert_eq!(state.wanted_stack(), None);
    state.take(stack(STUCK, "later"), 101.0);
    assert_eq!(state.stack(), Some(&Ok(vec!["nap".to_owned()])));
    acted(&mut state, &[Action::Pause, Action::Back]);
    assert_eq!(
        (state.screen(), state.wanted_stack()),
        (&Screen::Table, None)
    );
}

#[test]
fn where_stacks_cannot_be_read_it_says_so() {
    let why = "run it there".to_owned();
    let mut state = State::new("of x".to_owned(), Some(why.clone()));
    state.take(Update::View(Arc::new(test_views::view())), 1.0);
    acted(&mut state, &[Action::Pane(Pane::InProgress), Action::Open]);
    assert_eq!(state.wanted_stack(), None);
    assert_eq!(state.stack(), Some(&Err(why)));
}

#[test]
fn rows_that_open_nothing_else_are_shown_whole() {
    let mut state = state(test_views::view());
    for pane in [
        Pane::Findings,
        Pane::Routes,
        Pane::Errors,
        Pane::Slowest,
        Pane::Ends,
    ] {
        acted(&mut state, &[Action::Pane(pane), Action::Open]);
        let Screen::Detail(values) = state.screen() else {
            panic!("{pane:?}: {:?}", state.screen());
        };
        assert_eq!(values.len(), pane.columns().len());
    }
}

#[test]
fn what_is_paused_stands_still_until_it_goes_on() {
    let mut state = state(test_views::view());
    acted(&mut state, &[Action::Pause]);
    state.take(Update::View(Arc::new(View::default())), 101.0);
    assert!(state.is_paused());
    assert_eq!(state.rows().len(), 2);
    acted(&mut state, &[Action::Pause]);
    assert!(state.rows().is_empty());
}

#[test]
fn a_lost_daemon_is_told_with_the_age_of_what_is_shown() {
    let mut state = state(test_views::view());
    state.take(Update::Lost("refused \x1b[2J".to_owned()), 101.0);
    state.tick(107.5);
    assert_eq!(state.lost(), Some("refused \\u{1b}[2J"));
    assert_eq!(state.age_seconds(), Some(7.5));
    assert_eq!(state.rows().len(), 2);
    state.take(Update::View(Arc::new(test_views::view())), 108.0);
    assert_eq!((state.lost(), state.age_seconds()), (None, Some(0.0)));
}

#[test]
fn it_ends_when_told_to() {
    let mut state = state(test_views::view());
    assert!(!state.act(Action::Quit));
    assert!(!state.take(Update::End, 1.0));
}

#[test]
fn what_is_on_top_scrolls_no_further_than_it_goes() {
    let mut state = state(test_views::view());
    acted(&mut state, &[Action::Help]);
    state.drawn(10, 25);
    acted(&mut state, &[Action::Last]);
    assert_eq!(state.scroll(), 15);
    acted(&mut state, &[Action::PageUp, Action::Up]);
    assert_eq!(state.scroll(), 4);
    state.drawn(24, 25);
    assert_eq!(state.scroll(), 1);
    acted(&mut state, &[Action::Help]);
    assert_eq!(state.screen(), &Screen::Table);
}
