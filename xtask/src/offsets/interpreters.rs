//! The interpreters of this machine that have debug information.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

/// One interpreter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interpreter {
    /// Of CPython 3.
    pub minor: u8,
    pub patch: u8,
    /// The file that CPython itself is in.
    pub file: PathBuf,
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { minor, patch, file } = self;
        write!(f, "CPython 3.{minor}.{patch}, {}", file.display())
    }
}

/// Those of pyenv, which builds its own; the oldest first.
pub fn at_hand() -> Vec<Interpreter> {
    let Some(root) = pyenv() else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(root.join("versions")) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .filter_map(|entry| interpreter(&entry.ok()?.path()))
        .collect();
    found.sort();
    found
}

/// Where pyenv keeps its versions.
fn pyenv() -> Option<PathBuf> {
    env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".pyenv")))
}

fn interpreter(folder: &Path) -> Option<Interpreter> {
    let (minor, patch) = version(folder.file_name()?.to_str()?)?;
    let shared = folder.join(format!("lib/libpython3.{minor}.so.1.0"));
    let executable = folder.join(format!("bin/python3.{minor}"));
    let file = [shared, executable]
        .into_iter()
        .find(|file| file.exists())?;
    Some(Interpreter { minor, patch, file })
}

/// `3.11.7`, and no other implementation or kind of build.
fn version(name: &str) -> Option<(u8, u8)> {
    let (minor, patch) = name.strip_prefix("3.")?.split_once('.')?;
    Some((minor.parse().ok()?, patch.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_released_cpythons_are_taken() {
        assert_eq!(version("3.11.7"), Some((11, 7)));
        for other in ["2.7.18", "3.13.0t", "3.14-dev", "pypy3.10-7.3.15", "3.13"] {
            assert_eq!(version(other), None, "{other}");
        }
    }
}
