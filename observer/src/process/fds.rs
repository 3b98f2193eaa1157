//! What a process has open: `/proc/<pid>/fd`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::procfs::ProcFs;
use observer_model::event::Pid;

const SECOND_NS: i64 = 1_000_000_000;

impl ProcFs {
    /// How many files a process has open.
    ///
    /// # Errors
    /// When it went, or may not be looked at.
    pub fn open_fds(&self, pid: Pid) -> io::Result<u32> {
        let folder = self.root().join(format!("{pid}/fd"));
        // Linux 6.2 and later tell the number as the size (`fs/proc/fd.c`, `proc_fd_getattr`).
        let count = match fs::metadata(&folder)?.len() {
            0 => fs::read_dir(folder)?.count() as u64,
            count => count,
        };
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// When a worker last told its master that it is alive, in nanoseconds since the Unix epoch;
    /// `None` when that descriptor is not a deleted `wgunicorn-*` file, as
    /// `gunicorn/workers/workertmp.py` makes it.
    #[must_use]
    pub fn heartbeat_ns(&self, pid: Pid, fd: u32) -> Option<i64> {
        const DELETED: &[u8] = b" (deleted)";
        let path = self.fd(pid, fd);
        let link = fs::read_link(&path).ok()?;
        let name = link.file_name()?.as_bytes();
        if !name.starts_with(b"wgunicorn-") || !name.ends_with(DELETED) {
            return None;
        }
        let file = fs::metadata(&path).ok()?;
        file.ctime()
            .checked_mul(SECOND_NS)?
            .checked_add(file.ctime_nsec())
    }

    /// The inode of the socket that a descriptor of a process is, if it is one.
    #[must_use]
    pub fn socket(&self, pid: Pid, fd: u32) -> Option<u64> {
        let link = fs::read_link(self.fd(pid, fd)).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        inode.parse().ok()
    }

    /// The inodes of all sockets of a process.
    ///
    /// # Errors
    /// When it went, or may not be looked at.
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
    fn a_heartbeat_is_the_change_of_a_deleted_file_of_gunicorns() {
        let folder = tempfile::tempdir().unwrap();
        let procfs = ProcFs::new("/proc").unwrap();
        let [workers, other] = ["wgunicorn-x1", "gunicorn-x1"].map(|name| {
            let file = File::create(folder.path().join(name)).unwrap();
            let fd = u32::try_from(file.as_raw_fd()).unwrap();
            (file, fd)
        });
        let heartbeat = |fd| procfs.heartbeat_ns(std::process::id(), fd);
        assert_eq!(heartbeat(workers.1), None, "it is not deleted yet");
        for name in ["wgunicorn-x1", "gunicorn-x1"] {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        let age_ns = crate::clock::wall_ns() - heartbeat(workers.1).unwrap();
        assert!((0..60 * SECOND_NS).contains(&age_ns), "{age_ns}");
        assert_eq!(heartbeat(other.1), None);
        assert_eq!(heartbeat(u32::MAX), None);
        drop((workers, other));
    }

    #[test]
    fn sockets_are_told_by_their_links() {
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
