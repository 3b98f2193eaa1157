//! Mapped files of a process, and how to open exactly those.

use super::overlay;
use crate::process::root;
use crate::process::root::Links;
use nix::fcntl::OFlag;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Suffix of the path of a removed file.
pub(crate) const DELETED: &[u8] = b" (deleted)";

/// A mapping of a file, from a line of `/proc/<pid>/maps` (`proc_pid_maps(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// Offset in the file.
    pub offset: u64,
    pub executable: bool,
    /// As the process sees it: in its root, without ` (deleted)`.
    pub path: PathBuf,
    /// Major and minor number; `stat` has another one on btrfs and old overlayfs.
    pub dev: (u32, u32),
    pub inode: u64,
    pub deleted: bool,
}

impl Mapping {
    /// Last part of the path; empty if it is not text.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
    }
}

/// All mappings of files; other and malformed lines are left out.
#[must_use]
pub fn parse(maps: &[u8]) -> Vec<Mapping> {
    maps.split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let path_at = line.iter().position(|&byte| byte == b'/')?;
    let (head, path) = line.split_at_checked(path_at)?;
    let mut fields = std::str::from_utf8(head).ok()?.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let offset = fields.next()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode = fields.next()?.parse().ok()?;
    if fields.next().is_some() || inode == 0 {
        return None; // something like `[anon:/name]`
    }
    let (path, deleted) = match path.strip_suffix(DELETED) {
        Some(path) => (path, true),
        None => (path, false),
    };
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        executable: permissions.contains('x'),
        path: PathBuf::from(std::ffi::OsStr::from_bytes(path)),
        dev: (
            u32::from_str_radix(major, 16).ok()?,
            u32::from_str_radix(minor, 16).ok()?,
        ),
        inode,
        deleted,
    })
}

/// More is not read: 65,530 mappings, the kernel's default limit, of a hundred bytes each are less.
const MAX_BYTES: u64 = 8 << 20;

/// Mapped files of a process.
///
/// # Errors
/// When `maps` cannot be read: the process exited, or must not be read.
pub fn read(proc_root: &Path, pid: u32) -> io::Result<Vec<Mapping>> {
    let mut maps = Vec::new();
    let file = File::open(proc_root.join(format!("{pid}/maps")))?;
    file.take(MAX_BYTES).read_to_end(&mut maps)?;
    Ok(parse(&maps))
}

/// Inode and device of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNumber {
    pub dev: u64,
    pub inode: u64,
}

impl FileNumber {
    fn of(meta: &Metadata) -> Self {
        Self {
            dev: meta.dev(),
            inode: meta.ino(),
        }
    }
}

/// A mapped file, opened.
#[derive(Debug)]
pub struct MappedFile {
    pub file: File,
    /// The path that it was opened by: valid while the process lives.
    pub path: PathBuf,
    seen: Metadata,
}

/// Opens the file behind a mapping: by its path in the root of the process if that is still the same
/// file, else (deleted, replaced, hidden by a mount) by `map_files`, which needs `CAP_SYS_ADMIN` or `CAP_CHECKPOINT_RESTORE`.
///
/// # Errors
/// When neither way leads to the file.
pub fn open(proc_root: &Path, pid: u32, mapping: &Mapping) -> io::Result<MappedFile> {
    if !mapping.deleted {
        let in_root = mapping.path.strip_prefix("/").unwrap_or(&mapping.path);
        let root = proc_root.join(format!("{pid}/root"));
        // Paths in `maps` have no links.
        let file = root::open_in(&root, in_root, Links::None);
        if let Ok(opened) = file.and_then(|file| MappedFile::of(file, root.join(in_root)))
            && opened.seen.ino() == mapping.inode
        {
            return Ok(opened);
        }
    }
    let range = format!("{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    open_at(proc_root.join(range))
}

/// Opens a file again and checks that it is the same one.
///
/// # Errors
/// When another file has the path now, or it cannot be opened.
pub fn reopen(path: &Path, opened: FileNumber) -> io::Result<File> {
    let now = open_at(path.to_owned())?;
    if now.opened() != opened {
        return Err(io::Error::other("was replaced by another file"));
    }
    Ok(now.file)
}

pub(crate) fn open_at(path: PathBuf) -> io::Result<MappedFile> {
    // The path may be another file now: opening must not block.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(&path)?;
    MappedFile::of(file, path)
}

impl MappedFile {
    fn of(file: File, path: PathBuf) -> io::Result<Self> {
        let seen = file.metadata()?;
        if !seen.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Self { file, path, seen })
    }

    /// The opened file. No other file can have the same number.
    #[must_use]
    pub fn opened(&self) -> FileNumber {
        FileNumber::of(&self.seen)
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.seen.size()
    }

    /// Changes when the file is written to.
    #[must_use]
    pub fn modified(&self) -> (i64, i64) {
        (self.seen.mtime(), self.seen.mtime_nsec())
    }

    /// The file that the kernel puts a probe on. On overlayfs that is the file below, which containers
    /// of one image share, some also with their host. If it is not found, the inode on the overlay is
    /// mostly that of the file below, and size and time stand for the device. The owner of the mount
    /// can fake the number, so no content is cached by it.
    ///
    /// `in_root` is the path as process `pid` sees it.
    #[must_use]
    pub fn probed(&self, proc_root: &Path, pid: u32, in_root: &Path) -> Probed {
        let is_overlay =
            fstatfs(&self.file).is_ok_and(|fs| fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
        if !is_overlay {
            return Probed::Known(self.opened());
        }
        overlay::below(proc_root, pid, in_root, &self.seen).map_or_else(
            || {
                Probed::Guessed(FileNumber {
                    dev: self.seen.size().rotate_left(32)
                        ^ self.seen.mtime().cast_unsigned().rotate_left(16)
                        ^ self.seen.mtime_nsec().cast_unsigned(),
                    inode: self.seen.ino(),
                })
            },
            |below| Probed::Known(FileNumber::of(&below)),
        )
    }

    /// What an overlay shows of the file below as it is.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let changed = (self.seen.ctime(), self.seen.ctime_nsec());
        (self.seen.ino(), self.size(), self.modified(), changed)
    }
}

/// The file that the kernel puts a probe on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    Known(FileNumber),
    /// It is below an overlay, and was not found.
    Guessed(FileNumber),
}

/// Inode, size, and times of change of content and of attributes.
pub type Shown = (u64, u64, (i64, i64), (i64, i64));

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_lines_of_files_are_kept() {
        let maps = b"\
00400000-00420000 r--p 00000000 fe:00 247030                             /usr/bin/python3.11
7f00a000-7f00c000 r-xp 00002000 103:0a 31 /a b/lib x.so (deleted)
7f00c000-7f00d000 rw-p 00000000 00:00 0
7f00d000-7f00e000 rw-p 00000000 00:00 0                                  [heap]
7f00e000-7f00f000 rw-p 00000000 00:00 0                                  [anon:/x]
garbage /path
\xff\xfe-1 /x
zz-1 r--p 0 0:0 1 /x";
        let found = parse(maps);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].path, Path::new("/usr/bin/python3.11"));
        assert_eq!(
            (found[0].start, found[0].inode, found[0].dev),
            (0x40_0000, 247_030, (0xfe, 0))
        );
        assert!(!found[0].executable && !found[0].deleted);
        assert_eq!(found[1].path, Path::new("/a b/lib x.so"));
        assert_eq!((found[1].offset, found[1].dev), (0x2000, (0x103, 0x0a)));
        assert!(found[1].executable && found[1].deleted);
    }

    #[test]
    fn the_own_executable_opens_as_the_file_that_is_mapped() {
        let pid = std::process::id();
        let root = Path::new("/proc");
        let exe = std::env::current_exe().unwrap();
        let mappings = read(root, pid).unwrap();
        let mapping = mappings.iter().find(|m| m.path == exe).unwrap();
        let opened = open(root, pid, mapping).unwrap();
        assert_eq!(
            opened.opened(),
            FileNumber::of(&fs::metadata(&exe).unwrap())
        );
        assert!(opened.path.starts_with("/proc"));
        reopen(&opened.path, opened.opened()).unwrap();
        assert!(reopen(Path::new("/proc/version"), opened.opened()).is_err());
    }

    #[test]
    fn another_file_on_the_path_of_a_mapped_one_is_not_opened() {
        let proc_root = tempfile::tempdir().unwrap();
        let base = proc_root.path().join("7/root/lib");
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("x.so"), b"other").unwrap();
        let inode = fs::metadata(base.join("x.so")).unwrap().ino();
        let line = format!("1000-2000 r--p 0 0:0 {} /lib/x.so", inode + 1);
        let mapping = parse(line.as_bytes()).remove(0);
        assert!(open(proc_root.path(), 7, &mapping).is_err());
        let mapping = Mapping { inode, ..mapping };
        assert_eq!(open(proc_root.path(), 7, &mapping).unwrap().size(), 5);
        // Nor is one that a link leads to, whatever its number is.
        fs::rename(base.join("x.so"), base.join("y.so")).unwrap();
        std::os::unix::fs::symlink("y.so", base.join("x.so")).unwrap();
        assert!(open(proc_root.path(), 7, &mapping).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_parse_without_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
