//! Files of a process's own root, which whoever runs the process may have filled with traps.
//!
//! What is opened is in that root, whatever links there lead to, and opening it waits for nobody.
//! `openat2(2)`: Linux 5.6.

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io;
use std::path::Path;

/// Whether links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Those that stay in the root.
    Inside,
    /// None, also not on the way: the path has none, or is no longer what it was.
    None,
}

/// Opens a file of a root, such as `/proc/<pid>/root`, for reading.
///
/// # Errors
/// As `openat2(2)`: a link that may not be followed is `ELOOP`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_nowhere_but_within_the_root() {
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
    }
}
