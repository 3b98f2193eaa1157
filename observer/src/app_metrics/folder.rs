//! The folder that the processes of an app write to, and its files.
//!
//! The application may have set traps there: links that lead out, pipes that block, files without
//! end, files of others that it may not read itself.

use super::decode;
use super::error::Reason;
use super::file_name::FileName;
use crate::process::maps;
use crate::process::root;
use crate::process::root::Links;
use observer_model::event::Pid;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The variables that name the folder; the first one wins (`prometheus_client`, `values.py`).
const VARIABLES: [&[u8]; 2] = [b"PROMETHEUS_MULTIPROC_DIR=", b"prometheus_multiproc_dir="];
/// More of an environment is not read.
const MAX_ENVIRONMENT_BYTES: u64 = 1 << 20;
/// Most names of a folder that are read.
const MAX_NAMES: usize = 100_000;
/// Most files of a folder. A process has up to one for each type and mode, and they stay after its exit.
pub const MAX_FILES: usize = 20_000;
/// Most bytes of a file.
const MAX_FILE_BYTES: usize = 16 << 20;
/// Bytes that are read first, as `prometheus_client` does: a file is mostly unused.
const FIRST_BYTES: u64 = 4096;

/// An opened folder.
#[derive(Debug)]
pub struct Folder {
    file: File,
}

/// Device and inode: two masters may have one folder.
pub type FolderId = (u64, u64);

/// The names of a folder's files.
#[derive(Debug, Default)]
pub struct Names {
    pub files: Vec<FileName>,
    /// There are more.
    pub is_cut: bool,
}

/// The folder that a process writes to; `None` if it names none. First its mapped files show it, because
/// the program may set the variable after its start, which its environment in `/proc` does not show.
///
/// # Errors
/// When a folder is named and cannot be opened.
pub fn of_process(proc_root: &Path, pid: Pid) -> io::Result<Option<Folder>> {
    let mapped = of_maps(proc_root, pid).map(|path| Folder::open(proc_root, pid, &path));
    if let Some(Ok(folder)) = mapped {
        return Ok(Some(folder));
    }
    let named = of_environment(proc_root, pid);
    named
        .map(|path| Folder::open(proc_root, pid, &path))
        .transpose()
}

fn of_maps(proc_root: &Path, pid: Pid) -> Option<PathBuf> {
    let mappings = maps::read(proc_root, pid).ok()?;
    let mut files = mappings.iter().filter(|mapping| !mapping.deleted);
    let file = files.find(|mapping| FileName::parse(mapping.file_name()).is_some())?;
    let folder = file.path.parent()?;
    // Of a process in another root, the kernel gives the path as seen from here.
    let root = fs::read_link(proc_root.join(format!("{pid}/root")));
    let inside = root
        .ok()
        .and_then(|root| Some(folder.strip_prefix(root).ok()?.to_owned()));
    Some(Path::new("/").join(inside.as_deref().unwrap_or(folder)))
}

fn of_environment(proc_root: &Path, pid: Pid) -> Option<PathBuf> {
    let mut environment = Vec::new();
    File::open(proc_root.join(format!("{pid}/environ")))
        .and_then(|file| {
            file.take(MAX_ENVIRONMENT_BYTES)
                .read_to_end(&mut environment)
        })
        .ok()?;
    let path = named_folder(&environment)?;
    if path.is_absolute() {
        return Some(path);
    }
    let current = fs::read_link(proc_root.join(format!("{pid}/cwd"))).ok()?;
    Some(current.join(path))
}

/// The folder that an environment names.
fn named_folder(environment: &[u8]) -> Option<PathBuf> {
    let value = |name: &[u8]| {
        let mut all = environment.split(|&byte| byte == 0);
        all.find_map(|variable| variable.strip_prefix(name))
    };
    let path = VARIABLES.into_iter().find_map(value)?;
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

impl Folder {
    /// Opens a folder in the root of a process.
    ///
    /// # Errors
    /// As `openat2(2)`, and when it is no folder.
    fn open(proc_root: &Path, pid: Pid, path: &Path) -> io::Result<Self> {
        let file = root::open_in(&proc_root.join(format!("{pid}/root")), path, Links::Inside)?;
        if !file.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { file })
    }

    /// Its identity while it is open.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn id(&self) -> io::Result<FolderId> {
        let seen = self.file.metadata()?;
        Ok((seen.dev(), seen.ino()))
    }

    /// The names of its files with values.
    ///
    /// # Errors
    /// As `readdir(3)`.
    pub fn names(&self) -> io::Result<Names> {
        let mut names = Names::default();
        // The folder that was opened, whatever its path leads to by now.
        let opened = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        for (number, entry) in fs::read_dir(opened)?.enumerate() {
            if number == MAX_NAMES || names.files.len() == MAX_FILES {
                names.is_cut = true;
                break;
            }
            let name = entry?.file_name();
            names.files.extend(name.to_str().and_then(FileName::parse));
        }
        Ok(names)
    }

    /// The bytes in use of a file, at most `budget`; `None` if it is gone. It must belong to one of
    /// these users: the observer can read files that the application cannot.
    ///
    /// # Errors
    /// With what is wrong about the file.
    pub fn read(
        &self,
        name: &FileName,
        users: &BTreeSet<u32>,
        budget: usize,
    ) -> Result<Option<Vec<u8>>, Reason> {
        let file = match root::open_of(&self.file, &name.name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(Reason::File),
        };
        let seen = file.metadata().map_err(|_| Reason::File)?;
        if !seen.is_file() {
            return Err(Reason::File);
        }
        if !users.contains(&seen.uid()) {
            return Err(Reason::Owner);
        }
        let mut bytes = Vec::new();
        let read = |bytes: &mut Vec<u8>, limit| {
            let read = (&file).take(limit).read_to_end(bytes);
            read.map_err(|_| Reason::File)
        };
        read(&mut bytes, FIRST_BYTES)?;
        let used = decode::used(&bytes).map_err(|decode::Malformed| Reason::Malformed)?;
        if used > MAX_FILE_BYTES || used > budget {
            return Err(Reason::FileSize);
        }
        let rest = used.saturating_sub(bytes.len());
        read(&mut bytes, rest as u64)?;
        bytes.truncate(used);
        Ok(Some(bytes))
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
