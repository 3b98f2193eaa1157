//! What `top` shows: a pure function of what came and which keys were pressed. It knows nothing of
//! how that looks.
//!
//! ```text
//!            Open                       Help, Log
//!  Table ──────────> Stack, Detail    Table ──────> Help, Log     Table ──Filter──> Typing
//!    ^                   │              ^              │            ^   Accept, Back   │
//!    └──────── Back ─────┘              └──── Back ────┘            └──────────────────┘
//! ```

use super::columns::{Pane, Sort, Width};
use super::input::Action;
use super::past::Past;
use super::rows::{self, Row, Value};
use observer_model::event::Pid;
use observer_model::views::live_view::View;
use observer_model::views::live_view::history::History;
use std::sync::Arc;

/// Characters that a filter can have.
const MAX_FILTER: usize = 100;

/// Something new.
#[derive(Debug)]
pub enum Update {
    History(History),
    View(Arc<View>),
    /// The daemon does not answer, and why.
    Lost(String),
    /// A stack that was asked for, as lines, or why there is none.
    Stack {
        pid: Pid,
        stack: Result<Vec<String>, String>,
    },
    /// It is over.
    End,
}

/// What is on top.
#[derive(Clone, Debug, PartialEq)]
pub enum Screen {
    Table,
    /// A filter is typed.
    Typing,
    Help,
    Log,
    /// Where a worker is in Python.
    Stack(Pid),
    /// All of the selected row, by title.
    Detail(Vec<(&'static str, Value)>),
}

/// What is selected in a pane, and how it is sorted.
#[derive(Clone, Debug)]
struct Place {
    sort: Sort,
    selected: usize,
    /// It stays selected wherever it goes.
    id: Option<String>,
}

/// All of it.
#[derive(Debug)]
pub struct State {
    /// Where it comes from, for people.
    pub origin: String,
    /// Why stacks cannot be shown, if so.
    no_stacks: Option<String>,
    view: Option<Arc<View>>,
    past: Past,
    /// What was shown when it was paused.
    paused: Option<(Arc<View>, Past)>,
    lost: Option<String>,
    received_seconds: f64,
    now_seconds: f64,
    pane: Pane,
    places: Vec<Place>,
    filter: String,
    only: Option<Pid>,
    screen: Screen,
    stack: Option<Result<Vec<String>, String>>,
    /// Rows of the pane, as they are to be shown.
    rows: Vec<Row>,
    /// First line shown of what is on top.
    scroll: usize,
    /// Lines of it, and how many are shown at a time.
    lines: usize,
    page: usize,
}

impl State {
    /// `no_stacks` says why stacks cannot be shown, if so.
    #[must_use]
    pub fn new(origin: String, no_stacks: Option<String>) -> Self {
        let place = |pane: Pane| Place {
            sort: pane.sort(),
            selected: 0,
            id: None,
        };
        Self {
            origin,
            no_stacks,
            view: None,
            past: Past::default(),
            paused: None,
            lost: None,
            received_seconds: 0.0,
            now_seconds: 0.0,
            pane: Pane::Apps,
            places: Pane::ALL.into_iter().map(place).collect(),
            filter: String::new(),
            only: None,
            screen: Screen::Table,
            stack: None,
            rows: Vec::new(),
            scroll: 0,
            lines: 0,
            page: 1,
        }
    }

    /// Takes what came at `now_seconds` of any steady clock. False when it is over.
    pub fn take(&mut self, update: Update, now_seconds: f64) -> bool {
        self.now_seconds = now_seconds;
        match update {
            Update::History(history) => self.past.history(&history),
            Update::View(view) => {
                self.past.view(&view);
                self.view = Some(view);
                self.lost = None;
                self.received_seconds = now_seconds;
            }
            Update::Lost(why) => self.lost = Some(rows::text(&why)),
            Update::Stack { pid, stack } => {
                if self.screen == Screen::Stack(pid) && self.paused.is_none() {
                    self.stack = Some(stack);
                }
            }
            Update::End => return false,
        }
        self.refresh();
        true
    }

    /// Time passed.
    pub fn tick(&mut self, now_seconds: f64) {
        self.now_seconds = now_seconds;
    }

    /// What there was room for: so many lines at a time, of so many that are on top.
    pub fn drawn(&mut self, page: usize, lines: usize) {
        self.page = page.max(1);
        self.lines = lines;
        self.scroll = self.scroll.min(self.last_scroll());
    }

    /// Does what somebody wants. False when that is the end.
    pub fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Quit => return false,
            Action::Back => self.back(),
            Action::Help => self.show(Screen::Help),
            Action::Log => self.show(Screen::Log),
            Action::Pane(pane) => self.go(pane),
            Action::NextPane => self.turn(1),
            Action::PreviousPane => self.turn(Pane::ALL.len() - 1),
            Action::Up => self.walk(|at, _| at.saturating_sub(1)),
            Action::Down => self.walk(|at, _| at.saturating_add(1)),
            Action::PageUp => self.walk(usize::saturating_sub),
            Action::PageDown => self.walk(usize::saturating_add),
            Action::First => self.walk(|_, _| 0),
            Action::Last => self.walk(|_, _| usize::MAX),
            Action::NextColumn => self.sort_by(1),
            Action::PreviousColumn => self.sort_by(self.pane.columns().len() - 1),
            Action::Reverse => {
                let sort = &mut self.place().sort;
                sort.descending = !sort.descending;
            }
            Action::Filter => self.screen = Screen::Typing,
            Action::Pause => self.pause(),
            Action::Open => self.open(),
            Action::Type(c) => {
                if self.filter.chars().count() < MAX_FILTER && !c.is_control() {
                    self.filter.push(c);
                }
            }
            Action::Erase => _ = self.filter.pop(),
            Action::EraseAll => self.filter.clear(),
            Action::Accept => self.screen = Screen::Table,
        }
        self.refresh();
        true
    }

    fn back(&mut self) {
        match self.screen {
            Screen::Table if !self.filter.is_empty() => self.filter.clear(),
            Screen::Table => self.only = None,
            Screen::Typing => {
                self.filter.clear();
                self.screen = Screen::Table;
            }
            _ => self.screen = Screen::Table,
        }
    }

    fn show(&mut self, screen: Screen) {
        self.scroll = 0;
        let is_it = self.screen == screen;
        self.screen = if is_it { Screen::Table } else { screen };
    }

    fn go(&mut self, pane: Pane) {
        self.pane = pane;
        self.screen = Screen::Table;
    }

    fn turn(&mut self, by: usize) {
        let next = (self.pane.index() + by) % Pane::ALL.len();
        self.go(Pane::ALL[next]);
    }

    fn place(&mut self) -> &mut Place {
        let at = self.pane.index();
        &mut self.places[at]
    }

    /// Moves what is selected, or what is shown of what is on top.
    fn walk(&mut self, to: impl FnOnce(usize, usize) -> usize) {
        let (page, last) = (self.page, self.last_scroll());
        match self.screen {
            Screen::Table | Screen::Typing => {
                let last = self.rows.len().saturating_sub(1);
                let place = self.place();
                let at = to(place.selected, page).min(last);
                place.selected = at;
                self.place().id = self.rows.get(at).map(|row| row.id.clone());
            }
            _ => self.scroll = to(self.scroll, page).min(last),
        }
    }

    fn last_scroll(&self) -> usize {
        self.lines.saturating_sub(self.page)
    }

    fn sort_by(&mut self, step: usize) {
        let columns = self.pane.columns();
        let column = (self.sort().column + step) % columns.len();
        // Of numbers, the large ones are of interest.
        let descending = matches!(columns[column].width, Width::Number(_));
        self.place().sort = Sort { column, descending };
    }

    fn pause(&mut self) {
        self.paused = match (self.paused.take(), &self.view) {
            (None, Some(view)) => Some((Arc::clone(view), self.past.clone())),
            _ => None,
        };
    }

    fn open(&mut self) {
        if self.screen != Screen::Table {
            return;
        }
        let Some(row) = self.selected().cloned() else {
            return;
        };
        self.scroll = 0;
        match (self.pane, row.worker) {
            (Pane::Apps, _) => {
                self.only = Some(row.master);
                self.pane = Pane::Workers;
            }
            (Pane::Workers | Pane::InProgress, Some(pid)) => {
                self.stack = self.no_stacks.clone().map(Err);
                self.screen = Screen::Stack(pid);
            }
            _ => {
                let titles = self.pane.columns().iter().map(|column| column.title);
                self.screen = Screen::Detail(titles.zip(row.values).collect());
            }
        }
    }

    /// Makes the rows anew, and finds what is selected again.
    fn refresh(&mut self) {
        let mut rows = match self.view() {
            Some(view) => rows::of(view, self.pane, self.only),
            None => Vec::new(),
        };
        rows::filter(&mut rows, &self.filter);
        let place = self.place();
        rows::sort(&mut rows, place.sort);
        let id = place.id.as_deref();
        let at = id.and_then(|id| rows.iter().position(|row| row.id == id));
        place.selected = at
            .unwrap_or(place.selected)
            .min(rows.len().saturating_sub(1));
        self.rows = rows;
    }

    /// What is shown: the last there is, or that of the moment it was paused.
    #[must_use]
    pub fn view(&self) -> Option<&View> {
        match &self.paused {
            Some((view, _)) => Some(view),
            None => self.view.as_deref(),
        }
    }

    /// The history that belongs to it.
    #[must_use]
    pub fn past(&self) -> &Past {
        self.paused.as_ref().map_or(&self.past, |(_, past)| past)
    }

    /// Age of the last data; `None` before the first came.
    #[must_use]
    pub fn age_seconds(&self) -> Option<f64> {
        let age = (self.now_seconds - self.received_seconds).max(0.0);
        self.view.as_ref().map(|_| age)
    }

    /// Why nothing new comes, if so.
    #[must_use]
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    #[must_use]
    pub fn pane(&self) -> Pane {
        self.pane
    }

    #[must_use]
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    #[must_use]
    pub fn is_typing(&self) -> bool {
        self.screen == Screen::Typing
    }

    #[must_use]
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// The one master whose rows are shown, if not all are.
    #[must_use]
    pub fn only(&self) -> Option<Pid> {
        self.only
    }

    #[must_use]
    pub fn sort(&self) -> Sort {
        self.places[self.pane.index()].sort
    }

    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Place of the selected row among them.
    #[must_use]
    pub fn selected_index(&self) -> usize {
        self.places[self.pane.index()].selected
    }

    #[must_use]
    pub fn selected(&self) -> Option<&Row> {
        self.rows.get(self.selected_index())
    }

    #[must_use]
    pub fn scroll(&self) -> usize {
        self.scroll
    }

    /// What came of the stack that is on top; `None` as long as nothing did.
    #[must_use]
    pub fn stack(&self) -> Option<&Result<Vec<String>, String>> {
        self.stack.as_ref()
    }

    /// The process whose stack is to be read, and its master.
    #[must_use]
    pub fn wanted_stack(&self) -> Option<(Pid, Pid)> {
        let Screen::Stack(pid) = self.screen else {
            return None;
        };
        let is_wanted = self.no_stacks.is_none() && self.paused.is_none();
        let apps = &self.view.as_ref()?.apps;
        let of = |it: &&observer_model::views::live_view::App| {
            it.workers.iter().any(|worker| worker.pid == pid)
        };
        let master = apps.iter().find(of)?.master_pid;
        is_wanted.then_some((pid, master))
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
