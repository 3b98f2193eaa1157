//! Open files of a process: `/proc/<pid>/fd`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::procfs::ProcFs;
use observer_model::event::Pid;

const SECOND_NS: i64 = 1_000_000_000;
/// Of `/proc/<pid>/limits`: some dozen lines of 80 characters.
const MAX_LIMITS_BYTES: u64 = 16 << 10;

/// Times of a file, in nanoseconds; usually since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTimes {
    /// Its mtime, which its owner may set.
    pub modified_ns: i64,
    /// Its ctime.
    pub changed_ns: i64,
}

impl ProcFs {
    /// Number of open files of a process.
    ///
    /// # Errors
    /// When the process exited, or must not be read.
    pub fn open_fds(&self, pid: Pid) -> io::Result<u32> {
        let folder = self.root().join(format!("{pid}/fd"));
        // From Linux 6.2 on the size is the number (`fs/proc/fd.c`, `proc_fd_getattr`).
        let count = match fs::metadata(&folder)?.len() {
            0 => fs::read_dir(folder)?.count() as u64,
            count => count,
        };
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Most files that a process may have open, its soft limit; `None` also if there is no limit.
    #[must_use]
    pub fn max_fds(&self, pid: Pid) -> Option<u64> {
        let mut text = String::new();
        File::open(self.root().join(format!("{pid}/limits")))
            .and_then(|file| file.take(MAX_LIMITS_BYTES).read_to_string(&mut text))
            .ok()?;
        let mut lines = text.lines();
        let limits = lines.find_map(|line| line.strip_prefix("Max open files"))?;
        limits.split_ascii_whitespace().next()?.parse().ok()
    }

    /// Times of a worker's heartbeat file; `None` if the descriptor is no deleted `wgunicorn-*` file, as
    /// `gunicorn/workers/workertmp.py` creates it.
    #[must_use]
    pub fn heartbeat_file(&self, pid: Pid, fd: u32) -> Option<FileTimes> {
        const DELETED: &[u8] = b" (deleted)";
        let path = self.fd(pid, fd);
        let link = fs::read_link(&path).ok()?;
        let name = link.file_name()?.as_bytes();
        if !name.starts_with(b"wgunicorn-") || !name.ends_with(DELETED) {
            return None;
        }
        let file = fs::metadata(&path).ok()?;
        let ns = |seconds: i64, ns| seconds.checked_mul(SECOND_NS)?.checked_add(ns);
        Some(FileTimes {
            modified_ns: ns(file.mtime(), file.mtime_nsec())?,
            changed_ns: ns(file.ctime(), file.ctime_nsec())?,
        })
    }

    /// The inode of the socket behind a descriptor, if it is a socket.
    #[must_use]
    pub fn socket(&self, pid: Pid, fd: u32) -> Option<u64> {
        let link = fs::read_link(self.fd(pid, fd)).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        inode.parse().ok()
    }

    /// The inodes of all sockets of a process.
    ///
    /// # Errors
    /// When the process exited, or must not be read.
    pub fn sockets(&self, pid: Pid) -> io::Result<Vec<u64>> {
        let entries = fs::read_dir(self.root().join(format!("{pid}/fd")))?;
        let fds = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(fds.filter_map(|fd| self.socket(pid, fd)).collect())
    }

    fn fd(&self, pid: Pid, fd: u32) -> PathBuf {
        self.root().join(format!("{pid}/fd/{fd}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_heartbeat_is_in_the_times_of_a_deleted_gunicorn_file() {
        let folder = tempfile::tempdir().unwrap();
        let procfs = ProcFs::new("/proc").unwrap();
        let [workers, other] = ["wgunicorn-x1", "gunicorn-x1"].map(|name| {
            let file = File::create(folder.path().join(name)).unwrap();
            let fd = u32::try_from(file.as_raw_fd()).unwrap();
            (file, fd)
        });
        let heartbeat = |fd| procfs.heartbeat_file(std::process::id(), fd);
        assert_eq!(heartbeat(workers.1), None, "it is not deleted yet");
        for name in ["wgunicorn-x1", "gunicorn-x1"] {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        let FileTimes {
            modified_ns,
            changed_ns,
        } = heartbeat(workers.1).unwrap();
        for at_ns in [modified_ns, changed_ns] {
            let age_ns = crate::clock::wall_ns() - at_ns;
            assert!((-SECOND_NS..60 * SECOND_NS).contains(&age_ns), "{age_ns}");
        }
        assert_eq!(heartbeat(other.1), None);
        assert_eq!(heartbeat(u32::MAX), None);
        drop((workers, other));
    }

    #[test]
    fn sockets_are_recognised_by_their_links() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("10/fd");
        fs::create_dir_all(&folder).unwrap();
        for (fd, link) in [
            ("0", "/dev/null"),
            ("3", "socket:[123]"),
            ("4", "pipe:[124]"),
            ("5", "socket:[x]"),
        ] {
            symlink(link, folder.join(fd)).unwrap();
        }
        let procfs = ProcFs::with_clocks(root.path(), 1, 0);
        assert_eq!(procfs.sockets(10).unwrap(), [123]);
        assert_eq!(procfs.socket(10, 3), Some(123));
        assert_eq!(procfs.socket(10, 4), None);
        assert!(procfs.sockets(11).is_err());
    }

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        let root = tempfile::tempdir().unwrap();
        let procfs = ProcFs::with_clocks(root.path(), 1, 0);
        fs::create_dir_all(root.path().join("10")).unwrap();
        let with = |limit: &str| {
            let head = "Limit                     Soft Limit           Hard Limit           Units";
            let line =
                format!("Max open files            {limit}                 1048576       files");
            fs::write(root.path().join("10/limits"), format!("{head}\n{line}\n")).unwrap();
            procfs.max_fds(10)
        };
        assert_eq!(with("1024"), Some(1024));
        assert_eq!(with("unlimited"), None);
        assert_eq!(procfs.max_fds(11), None);
        assert!(ProcFs::new("/proc").unwrap().max_fds(std::process::id()) > Some(2));
    }

    #[test]
    fn the_open_files_of_the_own_process_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let procfs = ProcFs::new("/proc").unwrap();
        let open: Vec<_> = (0..100)
            .map(|number| UnixListener::bind(folder.path().join(number.to_string())).unwrap())
            .collect();
        assert!(procfs.open_fds(std::process::id()).unwrap() >= 100);
        assert!(procfs.sockets(std::process::id()).unwrap().len() >= open.len());
    }
}
