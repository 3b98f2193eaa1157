//! The panes and their columns: what there is to show. docs/TOP.md has the same, and a test sees to
//! that.

/// A list of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    Findings,
    Apps,
    Workers,
    Routes,
    Errors,
    InProgress,
    Slowest,
    Ends,
}

/// A column of a pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub title: &'static str,
    /// What it holds, with its unit.
    pub about: &'static str,
    pub width: Width,
    /// Where not all have room, those with the least go first.
    pub rank: u8,
}

/// Of a column, in cells of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// A number, to the right.
    Number(u16),
    Text(u16),
    /// At least that, and a share of what is left.
    Rest(u16),
}

/// What a pane is sorted by until somebody says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    pub column: usize,
    /// The largest first.
    pub descending: bool,
}

impl Pane {
    /// All of them, in order: the first is that of key `1`.
    pub const ALL: [Self; 8] = [
        Self::Findings,
        Self::Apps,
        Self::Workers,
        Self::Routes,
        Self::Errors,
        Self::InProgress,
        Self::Slowest,
        Self::Ends,
    ];

    /// Its place among all.
    #[must_use]
    pub fn index(self) -> usize {
        let at = Self::ALL.iter().position(|&pane| pane == self);
        at.unwrap_or_default()
    }

    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Findings => "Findings",
            Self::Apps => "Apps",
            Self::Workers => "Workers",
            Self::Routes => "Routes",
            Self::Errors => "Errors",
            Self::InProgress => "In progress",
            Self::Slowest => "Slowest",
            Self::Ends => "Ends",
        }
    }

    /// What it shows.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Findings => "What an operator should know, and what is lost or not covered",
            Self::Apps => "Masters, and what they did in the last minute",
            Self::Workers => "Workers that live, and those that ended lately",
            Self::Routes => {
                "Methods and routes of the last five to ten minutes, 50 of each app that took most of \
                 the time"
            }
            Self::Errors => {
                "Answers with a status of 500 or above since the app is observed, the 50 most \
                 frequent kinds of each app"
            }
            Self::InProgress => "The oldest request in progress of each worker that has one",
            Self::Slowest => "Requests of the last five to ten minutes that took longest",
            Self::Ends => "Workers that started and ended, and why",
        }
    }

    #[must_use]
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Findings => FINDINGS,
            Self::Apps => APPS,
            Self::Workers => WORKERS,
            Self::Routes => ROUTES,
            Self::Errors => ERRORS,
            Self::InProgress => IN_PROGRESS,
            Self::Slowest => SLOWEST,
            Self::Ends => ENDS,
        }
    }

    /// What it is sorted by at first.
    #[must_use]
    pub fn sort(self) -> Sort {
        let title = match self {
            Self::Findings => "SINCE",
            Self::Apps => "REQ/S",
            Self::Workers => "BUSY",
            Self::Routes => "TIME",
            Self::Errors => "COUNT",
            Self::InProgress => "AGE",
            Self::Slowest => "DURATION",
            Self::Ends => "AT",
        };
        let at = self.columns().iter().position(|it| it.title == title);
        Sort {
            column: at.unwrap_or_default(),
            descending: true,
        }
    }
}

const fn number(title: &'static str, width: u16, rank: u8, about: &'static str) -> Column {
    column(title, Width::Number(width), rank, about)
}

const fn text(title: &'static str, width: u16, rank: u8, about: &'static str) -> Column {
    column(title, Width::Text(width), rank, about)
}

const fn rest(title: &'static str, width: u16, rank: u8, about: &'static str) -> Column {
    column(title, Width::Rest(width), rank, about)
}

const fn column(title: &'static str, width: Width, rank: u8, about: &'static str) -> Column {
    Column {
        title,
        about,
        width,
        rank,
    }
}

const APP: Column = text("APP", 12, 2, "Name of the app");
const WORKER: Column = number("WORKER", 7, 8, "Pid of the worker");

const FINDINGS: &[Column] = &[
    text(
        "WHAT",
        15,
        9,
        "The finding; `lost` or `not covered` of the observer itself",
    ),
    text("APP", 12, 5, "Name of the app"),
    number("WORKER", 7, 6, "Pid of the worker; none if it is of all"),
    number("SINCE", 6, 4, "How long it is so"),
    rest("EVIDENCE", 16, 8, "What it was found by, as a sentence"),
];

const APPS: &[Column] = &[
    rest("APP", 10, 9, "Name of the app"),
    number("MASTER", 7, 6, "Pid of the master"),
    number("WORKERS", 7, 8, "Workers that live, of those configured"),
    number("REQ/S", 7, 8, "Requests per second"),
    number("ERR/S", 6, 8, "Of them, answered with a 5xx or not at all"),
    number("P50", 6, 5, "Half of the requests took at most that time"),
    number("P95", 6, 8, "19 of 20 requests took at most that time"),
    number("P99", 6, 5, "99 of 100 requests took at most that time"),
    number(
        "QUEUE",
        6,
        4,
        "19 of 20 connections waited at most that time to be accepted",
    ),
    number(
        "BUSY",
        5,
        7,
        "Share of the time that live workers had a request",
    ),
    number("NOW", 4, 6, "Requests in progress"),
    number("BACKLOG", 7, 5, "Connections that wait to be accepted now"),
    number("REQUESTS", 8, 3, "Requests since it is observed"),
    number("ERRORS", 7, 3, "Of them, answered with a 5xx or not at all"),
    text("CLASS", 13, 2, "Class of its workers"),
    text(
        "LEVEL",
        7,
        4,
        "How well it is observed: `full`, `socket` or `none`; `ended` once it ended",
    ),
    text("GUNICORN", 8, 1, "Version of Gunicorn"),
    text("PYTHON", 7, 1, "Version of Python"),
];

const WORKERS: &[Column] = &[
    WORKER,
    APP,
    text(
        "STATE",
        12,
        7,
        "How far it is: booting, running, quitting, aborting; once it ended, why",
    ),
    number("UP", 6, 3, "Time since its start"),
    number(
        "REQ/S",
        7,
        7,
        "Requests per second, of the last five to ten",
    ),
    number(
        "BUSY",
        5,
        8,
        "Share of the last five to ten seconds with a request",
    ),
    number("NOW", 4, 7, "Requests in progress"),
    number("OLDEST", 6, 6, "Age of the oldest of them"),
    number("REQUESTS", 8, 6, "Requests since it is observed"),
    number("CPU", 5, 5, "Of one processor"),
    number("MEMORY", 6, 5, "Resident memory, in bytes"),
    number("THR", 4, 2, "Threads"),
    number("FDS", 5, 2, "Open file descriptors"),
    number("BEAT", 6, 4, "Age of its heartbeat"),
    text("CLASS", 13, 1, "Class of the worker"),
];

const QUEUE: &str = "wait to be accepted";
const DISPATCH: &str = "wait for a thread or greenlet";
const READ: &str = "reading it, until the application was entered";
const APPLICATION: &str = "in the application, until the first byte of the answer";
const WRITE: &str = "from the first to the last byte of the answer";

const ROUTES: &[Column] = &[
    text("METHOD", 7, 7, "Method"),
    rest("ROUTE", 12, 9, "Route, as metrics have it"),
    number("REQUESTS", 8, 8, "Requests"),
    number("ERRORS", 6, 8, "Of them, answered with a 5xx or not at all"),
    number("P50", 6, 5, "Half of the requests took at most that time"),
    number("P95", 6, 8, "19 of 20 requests took at most that time"),
    number("P99", 6, 5, "99 of 100 requests took at most that time"),
    number("TIME", 6, 7, "Time of all of them together"),
    number("~QUEUE", 6, 4, QUEUE),
    number("~DISP", 6, 3, DISPATCH),
    number("~READ", 6, 3, READ),
    number("~APP", 6, 4, APPLICATION),
    number("~WRITE", 6, 3, WRITE),
    APP,
];

const ERRORS: &[Column] = &[
    number("COUNT", 7, 9, "Answers"),
    number("STATUS", 6, 8, "Status"),
    text("METHOD", 7, 6, "Method"),
    rest("ENDPOINT", 10, 8, "Route, as metrics have it"),
    rest(
        "ERROR",
        10,
        8,
        "Type of the exception; `unknown` when it was not seen, nothing when there was none",
    ),
    rest("RAISED IN", 12, 5, "File and function that raised it"),
    APP,
];

const IN_PROGRESS: &[Column] = &[
    number("AGE", 6, 9, "Time since it entered the application"),
    text("METHOD", 7, 6, "Method"),
    rest(
        "PATH",
        12,
        8,
        "Path as the client sent it, without the query",
    ),
    WORKER,
    number("NOW", 4, 6, "Requests in progress of this worker"),
    text("STATE", 9, 4, "How far the worker is"),
    number("BEAT", 6, 5, "Age of the worker's heartbeat"),
    APP,
];

const SLOWEST: &[Column] = &[
    text("AT", 9, 6, "When it ended, UTC"),
    number("DURATION", 8, 9, "How long it took"),
    number("STATUS", 6, 7, "Status; nothing when no answer was seen"),
    text("METHOD", 7, 5, "Method"),
    rest(
        "PATH",
        12,
        8,
        "Path as the client sent it, without the query",
    ),
    number("WORKER", 7, 6, "Pid of the worker"),
    number("QUEUE", 6, 4, QUEUE),
    number("DISP", 6, 3, DISPATCH),
    number("READ", 6, 3, READ),
    number("IN APP", 6, 4, APPLICATION),
    number("WRITE", 6, 3, WRITE),
    APP,
];

const ENDS: &[Column] = &[
    text("AT", 9, 6, "When it was, UTC"),
    text("EVENT", 7, 8, "`started` or `ended`"),
    WORKER,
    text("REASON", 12, 8, "Why it ended"),
    text(
        "HOW",
        8,
        4,
        "`graceful` when it finished what it had to do, or `forced`",
    ),
    text("EXIT", 10, 5, "Its exit code, or the signal that ended it"),
    number("SERVED", 7, 3, "Requests it was seen to serve"),
    number("UP", 6, 3, "How long it lived"),
    rest(
        "STUCK IN",
        12,
        6,
        "Innermost frame of the application when its master gave it up",
    ),
    APP,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pane_has_its_own_titles_and_a_column_to_sort_by() {
        for pane in Pane::ALL {
            let columns = pane.columns();
            let mut titles: Vec<_> = columns.iter().map(|column| column.title).collect();
            titles.sort_unstable();
            titles.dedup();
            assert_eq!(titles.len(), columns.len(), "{pane:?}");
            assert!(columns.iter().all(|column| !column.about.is_empty()));
            assert!(pane.sort().column > 0 || pane != Pane::Workers, "{pane:?}");
            assert_eq!(Pane::ALL[pane.index()], pane);
        }
    }
}
