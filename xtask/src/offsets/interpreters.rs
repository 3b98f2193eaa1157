//! The interpreters of this machine with debug information: pyenv builds them with it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::interpreters::pyenv;

/// One interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Minor version of CPython 3.
    pub minor: u8,
    /// Such as `3.11.7`.
    version: String,
    /// The file with CPython's code.
    pub file: PathBuf,
    /// The file with its debug information.
    pub debug: PathBuf,
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
    let file = [shared, executable].into_iter().find(|it| it.exists())?;
    Some(Interpreter {
        minor,
        version: folder.file_name()?.to_str()?.to_owned(),
        debug: file.clone(),
        file,
    })
}

/// An interpreter by name: `FILE` or `FILE:DEBUG`, where the file is named `python3.N`.
pub fn named(name: &str) -> Result<Interpreter> {
    let (file, debug) = name.split_once(':').unwrap_or((name, name));
    let version = Path::new(file)
        .file_name()
        .and_then(|name| name.to_str()?.strip_prefix("python"));
    let minor = version.and_then(|version| version.strip_prefix("3.")?.parse().ok());
    let (Some(version), Some(minor)) = (version, minor) else {
        bail!("{file} is not named python3.N");
    };
    Ok(Interpreter {
        minor,
        version: version.to_owned(),
        file: file.into(),
        debug: debug.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_interpreter_is_named_with_its_debug_information_beside_it() {
        let found = named("/usr/bin/python3.14:/usr/lib/debug/x.debug").unwrap();
        assert_eq!(
            (found.minor, found.to_string().as_str()),
            (14, "CPython 3.14, /usr/bin/python3.14")
        );
        assert_eq!(found.debug, Path::new("/usr/lib/debug/x.debug"));
        assert!(named("/usr/bin/pypy3").is_err());
    }

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
