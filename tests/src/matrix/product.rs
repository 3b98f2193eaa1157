//! The cells: interpreter × Gunicorn × worker class.
//!
//! Data says which cells do not run, so that they are not taken for mistakes of the observer; it was
//! found by running each.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result};

/// The source of an interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// pyenv's builds: a shared library with symbols.
    Pyenv,
    /// The `python3` of the machine's own Debian 12: one stripped static executable.
    Host,
    /// That of another Debian, unpacked into a root of its own, with its own libc.
    Suite(&'static str),
}

/// One build of CPython.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interpreter {
    /// Its name, such as `pyenv-3.11`.
    pub name: &'static str,
    pub source: Source,
    /// Its minor version: 11 of 3.11.
    pub minor: u8,
}

const fn interpreter(name: &'static str, source: Source, minor: u8) -> Interpreter {
    Interpreter {
        name,
        source,
        minor,
    }
}

/// All builds.
pub const INTERPRETERS: [Interpreter; 11] = [
    interpreter("pyenv-3.8", Source::Pyenv, 8),
    interpreter("pyenv-3.9", Source::Pyenv, 9),
    interpreter("debian-3.9", Source::Suite("bullseye"), 9),
    interpreter("pyenv-3.10", Source::Pyenv, 10),
    interpreter("pyenv-3.11", Source::Pyenv, 11),
    interpreter("debian-3.11", Source::Host, 11),
    interpreter("pyenv-3.12", Source::Pyenv, 12),
    interpreter("pyenv-3.13", Source::Pyenv, 13),
    interpreter("debian-3.13", Source::Suite("trixie"), 13),
    interpreter("debian-3.14", Source::Suite("sid"), 14),
    interpreter("debian-3.15", Source::Suite("sid"), 15),
];

/// The interpreter of this name.
pub fn interpreter_named(name: &str) -> Result<Interpreter> {
    INTERPRETERS
        .into_iter()
        .find(|interpreter| interpreter.name == name)
        .with_context(|| format!("no interpreter is named {name}"))
}

/// All Gunicorns; each has a file of its packages, `tests/apps/matrix/gunicorn-<version>.txt`.
pub const GUNICORNS: [&str; 9] = [
    "19.10.0", "20.1.0", "21.2.0", "22.0.0", "23.0.0", "24.1.1", "25.3.0", "26.2.0", "27.0.1",
];

/// The packages that Gunicorn needs for HTTP/2: `tests/apps/matrix/http2.txt`.
pub const HTTP2: &str = "http2";

/// Sets of packages with a Uvicorn, old and new ones, each for this minor version of CPython:
/// `tests/apps/matrix/<name>.txt`.
pub const UVICORNS: [(&str, u8); 8] = [
    ("uvicorn-3.8", 8),
    ("uvicorn-3.9", 9),
    ("uvicorn-3.10", 10),
    ("uvicorn-3.11", 11),
    ("uvicorn-3.12", 12),
    ("uvicorn-3.13", 13),
    ("uvicorn-3.14", 14),
    ("uvicorn-3.15", 15),
];

/// Minor versions whose set has a uvloop before 0.23. It writes after the task: what is handled while a response
/// is written is not seen then.
pub const WRITES_LATER: [u8; 6] = [8, 9, 10, 11, 12, 13];

/// All worker classes, as `--worker-class` names them.
pub const CLASSES: [&str; 4] = ["sync", "gthread", "gevent", "eventlet"];

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub interpreter: Interpreter,
    pub gunicorn: &'static str,
    pub class: &'static str,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            interpreter,
            gunicorn,
            class,
        } = self;
        write!(f, "{} gunicorn-{gunicorn} {class}", interpreter.name)
    }
}

impl Cell {
    /// Why Gunicorn itself does not run so, if it does not.
    #[must_use]
    pub fn cannot_run(&self) -> Option<&'static str> {
        let minor = self.interpreter.minor;
        let [major, ..] = version(self.gunicorn);
        // Each found by starting it; the names are of what it says then.
        match (self.class, major) {
            ("eventlet", 26..) => Some("Gunicorn 26 and later have no eventlet worker"),
            (_, 24..) if minor < 10 => Some("Gunicorn 24 and later are for Python 3.10 and later"),
            (_, 19) if minor >= 12 => Some(
                "Gunicorn 19's copy of six is found by an import hook of a kind Python 3.12 dropped",
            ),
            ("gthread", 19) if minor >= 10 => Some(
                "Gunicorn 19's gthread worker imports collections.Mapping, gone in Python 3.10",
            ),
            ("eventlet", 19 | 20) if minor >= 10 => Some(
                "Gunicorn 19 and 20 need an eventlet older than 0.30.3, which needs Python before 3.10",
            ),
            _ => None,
        }
    }

    /// Whether each of these words begins a part of its name.
    #[must_use]
    pub fn matches(&self, words: &[String]) -> bool {
        let name = self.to_string();
        let begins = |word: &str| {
            name.split(' ').any(|part| {
                let version = part.strip_prefix("gunicorn-").unwrap_or(part);
                part.starts_with(word) || version.starts_with(word)
            })
        };
        words.iter().all(|word| begins(word))
    }
}

/// Every cell, those that cannot run too.
#[must_use]
pub fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for interpreter in INTERPRETERS {
        for gunicorn in GUNICORNS {
            cells.extend(CLASSES.map(|class| Cell {
                interpreter,
                gunicorn,
                class,
            }));
        }
    }
    cells
}

/// A part of `cells` that has each interpreter with each class that it runs, on the least used Gunicorn:
/// so it has each Gunicorn, too.
#[must_use]
pub fn spanning(cells: &[Cell]) -> Vec<Cell> {
    let mut used: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    for interpreter in INTERPRETERS {
        for class in CLASSES {
            let of_both = cells.iter().filter(|cell| {
                cell.interpreter == interpreter
                    && cell.class == class
                    && cell.cannot_run().is_none()
            });
            let least = of_both.min_by_key(|cell| {
                let of_gunicorn = |class| used.get(&(cell.gunicorn, class)).copied().unwrap_or(0);
                let total: usize = CLASSES.into_iter().map(of_gunicorn).sum();
                (total, of_gunicorn(class))
            });
            if let Some(cell) = least {
                *used.entry((cell.gunicorn, class)).or_default() += 1;
                chosen.push(*cell);
            }
        }
    }
    chosen
}

/// A part of `cells` that has each interpreter once, and each class and Gunicorn at least once.
#[must_use]
pub fn covering(cells: &[Cell]) -> Vec<Cell> {
    let mut chosen: Vec<Cell> = Vec::new();
    for interpreter in INTERPRETERS {
        let runs = |cell: &&Cell| cell.interpreter == interpreter && cell.cannot_run().is_none();
        let least = cells.iter().filter(runs).min_by_key(|cell| {
            let same = |is_same: fn(&Cell, &Cell) -> bool| {
                chosen.iter().filter(|known| is_same(known, cell)).count()
            };
            (
                same(|a, b| a.gunicorn == b.gunicorn),
                same(|a, b| a.class == b.class),
            )
        });
        chosen.extend(least.copied());
    }
    chosen
}

fn version(text: &str) -> [u16; 2] {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    [parts.next().unwrap_or(0), parts.next().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{CLASSES, GUNICORNS, INTERPRETERS, all, covering, spanning};

    #[test]
    fn the_spanning_part_has_each_at_least_once() {
        let part = spanning(&all());
        let interpreters: BTreeSet<_> = part.iter().map(|cell| cell.interpreter).collect();
        let gunicorns: BTreeSet<_> = part.iter().map(|cell| cell.gunicorn).collect();
        let classes: BTreeSet<_> = part.iter().map(|cell| cell.class).collect();
        assert_eq!(interpreters.len(), INTERPRETERS.len());
        assert_eq!(gunicorns.len(), GUNICORNS.len());
        assert_eq!(classes.len(), CLASSES.len());
        assert!(part.iter().all(|cell| cell.cannot_run().is_none()));
        assert!(part.len() < all().len() / 5, "{} cells", part.len());
    }

    #[test]
    fn the_covering_part_has_each_interpreter_once_and_all_else_at_least_once() {
        let part = covering(&all());
        let interpreters: BTreeSet<_> = part.iter().map(|cell| cell.interpreter).collect();
        let gunicorns: BTreeSet<_> = part.iter().map(|cell| cell.gunicorn).collect();
        let classes: BTreeSet<_> = part.iter().map(|cell| cell.class).collect();
        assert_eq!(part.len(), INTERPRETERS.len());
        assert_eq!(interpreters.len(), INTERPRETERS.len());
        assert_eq!(gunicorns.len(), GUNICORNS.len());
        assert_eq!(classes.len(), CLASSES.len());
        assert!(part.iter().all(|cell| cell.cannot_run().is_none()));
    }

    #[test]
    fn cells_are_found_by_words_of_their_names() {
        let count = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
            all().iter().filter(|cell| cell.matches(&words)).count()
        };
        assert_eq!(count(&[]), 11 * 9 * 4);
        assert_eq!(count(&["pyenv-3.11", "23.0.0", "gevent"]), 1);
        assert_eq!(count(&["debian", "gunicorn-19"]), 5 * 4);
        assert_eq!(count(&["ruby"]), 0);
    }
}
