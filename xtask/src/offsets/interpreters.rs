//! The interpreters of this machine that have debug information: pyenv builds its own with it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::interpreters::pyenv;

/// One interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Of CPython 3.
    pub minor: u8,
    /// Such as `3.11.7`.
    version: String,
    /// The file that CPython itself is in.
    pub file: PathBuf,
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPython {}, {}", self.version, self.file.display())
    }
}

/// The newest of each minor version, the oldest first.
pub fn at_hand() -> Vec<Interpreter> {
    (0..=u8::MAX)
        .filter_map(|minor| interpreter(minor, &pyenv(minor)?))
        .collect()
}

fn interpreter(minor: u8, folder: &Path) -> Option<Interpreter> {
    let shared = folder.join(format!("lib/libpython3.{minor}.so.1.0"));
    let executable = folder.join(format!("bin/python3.{minor}"));
    Some(Interpreter {
        minor,
        version: folder.file_name()?.to_str()?.to_owned(),
        file: [shared, executable]
            .into_iter()
            .find(|file| file.exists())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn cpython_is_in_the_library_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("3.11.7");
        fs::create_dir_all(top.join("bin")).unwrap();
        fs::create_dir_all(top.join("lib")).unwrap();
        assert_eq!(interpreter(11, &top), None);
        let found = || interpreter(11, &top).unwrap().file;
        fs::write(top.join("bin/python3.11"), "").unwrap();
        assert_eq!(found(), top.join("bin/python3.11"));
        fs::write(top.join("lib/libpython3.11.so.1.0"), "").unwrap();
        assert_eq!(found(), top.join("lib/libpython3.11.so.1.0"));
    }
}
