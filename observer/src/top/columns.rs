//! The panes and their columns: one table, which the screen, the help screen and docs/TOP.md share.

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
    Exits,
}

/// A column of a pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub title: &'static str,
    /// Its content, with the unit.
    pub about: &'static str,
    pub width: Width,
    /// On a narrow terminal, the columns with the lowest rank are dropped first.
    pub rank: u8,
}

/// Width of a column, in cells of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// For a number, aligned to the right.
    Number(u16),
    Text(u16),
    /// At least this, and a share of the remaining width.
    Rest(u16),
}

/// Order of the rows of a pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    pub column: usize,
    /// The largest, latest or most urgent first.
    pub descending: bool,
}

impl Pane {
    /// All panes in order: key `1` shows the first.
    pub const ALL: [Self; 8] = [
        Self::Findings,
        Self::Apps,
        Self::Workers,
        Self::Routes,
        Self::Errors,
        Self::InProgress,
        Self::Slowest,
        Self::Exits,
    ];

    /// Its place in [`Self::ALL`].
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
            Self::Exits => "Exits",
        }
    }

    /// Its content.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Findings => {
                "Problems that an operator should know about, lost events, and masters below level `full`"
            }
            Self::Apps => "Masters, with rates and percentiles of the last minute",
            Self::Workers => "Live workers, and workers that exited lately",
            Self::Routes => {
                "Methods and routes of the last five to ten minutes, the 50 with the most time of each \
                 app"
            }
            Self::Errors => {
                "Responses with a status of 500 or above since the observer attached, the 50 most \
                 frequent of each app"
            }
            Self::InProgress => "The oldest request in progress of each worker",
            Self::Slowest => "The slowest requests of the last five to ten minutes",
            Self::Exits => {
                "Starts and exits of workers, and exits of masters and dirty pools, with the exit reason"
            }
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
            Self::Exits => EXITS,
        }
    }

    /// Its initial order.
    #[must_use]
    pub fn sort(self) -> Sort {
        let title = match self {
            Self::Findings => "URGENCY",
            Self::Apps => "REQ/S",
            Self::Workers => "BUSY",
            Self::Routes => "TIME",
            Self::Errors => "COUNT",
            Self::InProgress => "AGE",
            Self::Slowest => "DURATION",
            Self::Exits => "AT",
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
        "Kind of finding; `lost` or `not covered` for the observer itself",
    ),
    text("URGENCY", 8, 5, "`critical`, `warning` or `info`"),
    text("APP", 12, 6, "Name of the app"),
    number("WORKER", 7, 7, "Pid of the worker; none for the whole app"),
    number("SINCE", 6, 4, "Time since the finding began"),
    rest("EVIDENCE", 16, 8, "Figures that led to it"),
    text("MEANING", 64, 2, "What it means"),
    text("ADVICE", 80, 3, "What to do about it"),
];

const APPS: &[Column] = &[
    rest("APP", 10, 9, "Name of the app"),
    number("MASTER", 7, 6, "Pid of the master"),
    number("WORKERS", 7, 8, "Live workers, of the configured number"),
    number("REQ/S", 7, 8, "Requests per second"),
    number("ERR/S", 6, 8, "Errors per second: 5xx, or no answer"),
    number("P50", 6, 5, "50th percentile of the duration"),
    number("P95", 6, 8, "95th percentile of the duration"),
    number("P99", 6, 5, "99th percentile of the duration"),
    number(
        "QUEUE",
        6,
        4,
        "95th percentile of the queue wait until a connection is accepted",
    ),
    number(
        "BUSY",
        5,
        7,
        "Share of the time that live workers had at least one request",
    ),
    number("NOW", 4, 6, "Requests in progress"),
    number("BACKLOG", 7, 5, "Connections that wait to be accepted"),
    number("REQUESTS", 8, 3, "Requests since the observer attached"),
    number("ERRORS", 7, 3, "Errors among them: 5xx, or no answer"),
    text("CLASS", 13, 2, "Class of the workers"),
    text(
        "LEVEL",
        7,
        4,
        "Observation level: `full`, `socket` or `none`; `exited` once the master exited",
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
        "booting, running, quitting or aborting; after the exit, its reason",
    ),
    number("UP", 6, 3, "Time since the start"),
    number(
        "REQ/S",
        7,
        7,
        "Requests per second, over the last five to ten seconds",
    ),
    number(
        "BUSY",
        5,
        8,
        "Share of the last five to ten seconds with at least one request",
    ),
    number("NOW", 4, 7, "Requests in progress"),
    number("OLDEST", 6, 6, "Age of the oldest request in progress"),
    number("REQUESTS", 8, 6, "Requests since the observer attached"),
    number("CPU", 5, 5, "CPU use, in percent of one processor"),
    number("MEMORY", 6, 5, "Resident memory"),
    number("THR", 4, 2, "Threads"),
    number("FDS", 5, 2, "Open file descriptors"),
    number("BEAT", 6, 4, "Age of the last heartbeat"),
    text("CLASS", 13, 1, "Class of the worker"),
];

const QUEUE: &str = "Queue wait until the connection is accepted";
const DISPATCH: &str = "Wait for a thread or greenlet";
const READ: &str = "From the first read until the request enters the application";
const APPLICATION: &str = "In the application, until the first byte of the response";
const WRITE: &str = "From the first to the last byte of the response";

const ROUTES: &[Column] = &[
    text("METHOD", 7, 7, "Method"),
    rest("ROUTE", 12, 9, "Route, as in metrics"),
    number("REQUESTS", 8, 8, "Requests"),
    number("ERRORS", 6, 8, "Errors among them: 5xx, or no answer"),
    number("P50", 6, 5, "50th percentile of the duration"),
    number("P95", 6, 8, "95th percentile of the duration"),
    number("P99", 6, 5, "99th percentile of the duration"),
    number("TIME", 6, 7, "Sum of all durations"),
    number("~QUEUE", 6, 4, QUEUE),
    number("~DISP", 6, 3, DISPATCH),
    number("~READ", 6, 3, READ),
    number("~APP", 6, 4, APPLICATION),
    number("~WRITE", 6, 3, WRITE),
    APP,
];

const ERRORS: &[Column] = &[
    number("COUNT", 7, 9, "Responses"),
    number("STATUS", 6, 8, "Status"),
    text("METHOD", 7, 6, "Method"),
    rest("ENDPOINT", 10, 8, "Route, as in metrics"),
    rest(
        "ERROR",
        10,
        8,
        "Type of the exception; `unknown` when it was not seen, empty when there was none",
    ),
    rest("RAISED IN", 12, 5, "File and function that raised it"),
    APP,
];

const IN_PROGRESS: &[Column] = &[
    number(
        "AGE",
        6,
        9,
        "Time since the request entered the application",
    ),
    text("METHOD", 7, 6, "Method"),
    rest(
        "PATH",
        12,
        8,
        "Path as the client sent it, without the query",
    ),
    WORKER,
    number("NOW", 4, 6, "Requests in progress in this worker"),
    text("STATE", 9, 4, "Stage of the worker"),
    number("BEAT", 6, 5, "Age of the worker's last heartbeat"),
    APP,
];

const SLOWEST: &[Column] = &[
    text("AT", 9, 6, "Time it finished, UTC"),
    number("DURATION", 8, 9, "Duration"),
    number("STATUS", 6, 7, "Status; `-` when no response was seen"),
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

const EXITS: &[Column] = &[
    text("AT", 9, 6, "Time of the event, UTC"),
    text("EVENT", 7, 8, "`started` or `exited`"),
    text(
        "PROCESS",
        7,
        7,
        "`worker`, `master`, or `dirty` for a process of a dirty pool",
    ),
    number("PID", 7, 8, "Its PID"),
    text("REASON", 12, 8, "Exit reason"),
    text(
        "HOW",
        8,
        4,
        "`graceful` if the worker finished its requests, else `forced`",
    ),
    text("EXIT", 10, 5, "Exit code, or the signal that killed it"),
    number("SERVED", 7, 3, "Requests it served"),
    number("UP", 6, 3, "Lifetime"),
    rest(
        "STUCK IN",
        12,
        6,
        "Innermost frame of the application when the master aborted the worker",
    ),
    APP,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_of_a_pane_are_unique_and_one_of_them_is_its_order() {
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
