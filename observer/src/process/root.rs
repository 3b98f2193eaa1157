//! Files in the root of another process, whose owner may have set traps there.
//!
//! No link leads out of that root, and opening a file never blocks. `openat2(2)`: Linux 5.6.

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io;
use std::path::Path;

/// Whether links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Links that stay in the root.
    Inside,
    /// None, also not on the way: a path without links has one only if it was changed.
    None,
}

/// Opens a file of a root, such as `/proc/<pid>/root`, for reading.
///
/// # Errors
/// As `openat2(2)`: a link that must not be followed is `ELOOP`.
pub fn open_in(root: &Path, path: &Path, links: Links) -> io::Result<File> {
    let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(root, folder, Mode::empty())?;
    let resolve = match links {
        Links::Inside => ResolveFlag::RESOLVE_NO_MAGICLINKS,
        Links::None => ResolveFlag::RESOLVE_NO_SYMLINKS,
    };
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | resolve);
    Ok(openat2(&root, path, how)?.into())
}

/// Opens a file of an opened folder for reading; no link is followed.
///
/// # Errors
/// As `openat2(2)`: a link is `ELOOP`.
pub fn open_of(folder: &File, name: &str) -> io::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(folder, name, how)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_in_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("lib")).unwrap();
        fs::write(folder.path().join("secret"), "outside").unwrap();
        fs::write(root.join("lib/python"), "inside").unwrap();
        symlink("../secret", root.join("up")).unwrap();
        symlink(folder.path().join("secret"), root.join("away")).unwrap();
        symlink("/lib/python", root.join("python")).unwrap();
        symlink("lib", root.join("lib64")).unwrap();

        let read =
            |path: &str, links| open_in(&root, Path::new(path), links).and_then(io::read_to_string);
        for path in ["lib/python", "/lib/python"] {
            assert_eq!(read(path, Links::None).unwrap(), "inside");
        }
        for path in ["python", "lib64/python"] {
            assert_eq!(read(path, Links::Inside).unwrap(), "inside");
            let error = read(path, Links::None).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(nix::libc::ELOOP));
        }
        for path in ["up", "away", "../secret"] {
            assert!(read(path, Links::Inside).is_err(), "{path}");
            assert!(read(path, Links::None).is_err(), "{path}");
        }

        let opened = open_in(&root, Path::new("lib64"), Links::Inside).unwrap();
        let read = |name| open_of(&opened, name).and_then(io::read_to_string);
        assert_eq!(read("python").unwrap(), "inside");
        symlink("python", root.join("lib/link")).unwrap();
        for name in ["link", "../up", "../python", "/lib/python", "nothing"] {
            assert!(read(name).is_err(), "{name}");
        }
    }
}
