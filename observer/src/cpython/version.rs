//! Versions of CPython: those supported, and which interpreter a file is.

use probe_ebpf::python::{debug_offsets, tables};
use std::fmt;

/// Whether structures of a release are known: from its tables, or because it publishes them.
#[must_use]
pub fn is_supported(major: u8, minor: u8) -> bool {
    tables::for_version(major, minor).is_some() || debug_offsets::is_known(major, minor)
}

/// The interpreters that can be read, such as `an ordinary CPython 3.8 to 3.15 for glibc`.
#[must_use]
pub fn supported() -> String {
    let minors = || (0..=u8::MAX).filter(|&minor| is_supported(3, minor));
    let (oldest, newest) = (minors().next(), minors().next_back());
    let (oldest, newest) = (oldest.unwrap_or_default(), newest.unwrap_or_default());
    format!("an ordinary CPython 3.{oldest} to 3.{newest} for glibc")
}

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
    /// Major and minor number of a text such as `3.9`: for file names before 3.11.
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

/// An interpreter by the name of its executable or library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedPython<'a> {
    /// Such as `3.11`, `3`, or empty.
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
    /// The reason if it cannot be read.
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

/// The interpreter that the file name of an executable or a mapped library names, if any.
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
        // `m` named the allocator up to 3.7; `-intel64` and the like are architectures.
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
    fn implementation_and_version_come_from_the_file_name() {
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
    fn the_supported_versions_are_a_range_without_holes() {
        assert_eq!(supported(), "an ordinary CPython 3.8 to 3.15 for glibc");
        assert!((8..=15).all(|minor| is_supported(3, minor)));
        assert!(
            ![(3, 7), (3, 16), (2, 8)]
                .iter()
                .any(|&(major, minor)| is_supported(major, minor))
        );
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
