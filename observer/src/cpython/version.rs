//! Which interpreter a file is.

use std::fmt;

/// A release of CPython.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    pub major: u8,
    pub minor: u8,
    pub micro: u8,
    level: u8,
    serial: u8,
}

impl Release {
    /// From the name of a file, such as `python3.9`: for what comes before 3.11.
    #[must_use]
    pub fn minor_of(version: &str) -> Option<(u8, u8)> {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    /// From `Py_Version`, which libraries export from 3.11 on: bytes major,
    /// minor, micro, then a nibble each for level and serial (`Include/patchlevel.h`).
    #[must_use]
    pub fn from_hex(hex: u64) -> Option<Self> {
        let [major, minor, micro, last] = u32::try_from(hex).ok()?.to_be_bytes();
        let release = Self {
            major,
            minor,
            micro,
            level: last >> 4,
            serial: last & 15,
        };
        (major == 3).then_some(release)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            major,
            minor,
            micro,
            level,
            serial,
        } = self;
        write!(f, "{major}.{minor}.{micro}")?;
        match level {
            0xa => write!(f, "a{serial}"),
            0xb => write!(f, "b{serial}"),
            0xc => write!(f, "rc{serial}"),
            _ => Ok(()),
        }
    }
}

/// What the name of an executable or library tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedPython<'a> {
    /// Such as `3.11`, or as little as `3`, or nothing.
    pub version: &'a str,
    pub kind: Kind,
    pub is_library: bool,
}

/// Kinds of interpreters, as their files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    CPython,
    /// Without a GIL: `python3.13t`.
    FreeThreaded,
    /// Built with `--with-pydebug`: `python3.11d`.
    Debug,
    PyPy,
}

impl Kind {
    /// Why it cannot be read, if it cannot.
    #[must_use]
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::CPython => None,
            Self::FreeThreaded => Some("free-threaded CPython is not supported yet"),
            Self::Debug => Some("debug builds of CPython are not supported yet"),
            Self::PyPy => Some("PyPy is not supported"),
        }
    }
}

/// DeepCaptures at the file name of an executable or a mapped library; `None` if it is
/// not named like an interpreter.
#[must_use]
pub fn from_file_name(name: &str) -> Option<NamedPython<'_>> {
    let (name, is_library) = match name.strip_prefix("lib") {
        Some(library) => (library.split_once(".so")?.0, true),
        None => (name, false),
    };
    if let Some(rest) = name.strip_prefix("pypy") {
        let version = rest.split_once('-').map_or(rest, |(version, _)| version);
        return Some(NamedPython {
            version,
            kind: Kind::PyPy,
            is_library,
        });
    }
    let rest = name.strip_prefix("python")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (version, flags) = rest.split_at_checked(end)?;
    let kind = match flags {
        // `m` told the allocator up to 3.7; `-intel64` and the like are architectures.
        "" | "m" => Kind::CPython,
        _ if flags.starts_with('-') => Kind::CPython,
        "t" | "td" => Kind::FreeThreaded,
        "d" | "dm" => Kind::Debug,
        _ => return None,
    };
    Some(NamedPython {
        version,
        kind,
        is_library,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_tell_implementation_and_version() {
        let cases = [
            ("python3.11", Some(("3.11", Kind::CPython, false))),
            ("python3", Some(("3", Kind::CPython, false))),
            ("python", Some(("", Kind::CPython, false))),
            ("libpython3.11.so.1.0", Some(("3.11", Kind::CPython, true))),
            ("libpython3.so", Some(("3", Kind::CPython, true))),
            (
                "libpython3.13t.so.1.0",
                Some(("3.13", Kind::FreeThreaded, true)),
            ),
            ("python3.14t", Some(("3.14", Kind::FreeThreaded, false))),
            ("libpython3.11d.so.1.0", Some(("3.11", Kind::Debug, true))),
            ("libpypy3.10-c.so", Some(("3.10", Kind::PyPy, true))),
            ("pypy3.9", Some(("3.9", Kind::PyPy, false))),
            ("pythonista", None),
            ("libpython-helper", None),
            ("bash", None),
            ("", None),
        ];
        for (name, expected) in cases {
            let found = from_file_name(name).map(|p| (p.version, p.kind, p.is_library));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_version_word_gives_the_release() {
        let shown = |hex| Release::from_hex(hex).map(|release| release.to_string());
        assert_eq!(shown(0x030b_07f0).as_deref(), Some("3.11.7"));
        assert_eq!(shown(0x030f_00a2).as_deref(), Some("3.15.0a2"));
        assert_eq!(shown(0x030d_00c1).as_deref(), Some("3.13.0rc1"));
        assert_eq!(shown(0), None);
        assert_eq!(shown(u64::MAX), None);
    }
}
