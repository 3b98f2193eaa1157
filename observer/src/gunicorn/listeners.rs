//! The sockets that masters listen on, with what waits there.
//!
//! The kernel tells of the sockets of one network namespace at a time, and that of the asking
//! thread: a short-lived thread asks in each other one. None is held open: it would outlive its
//! container.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::found::FoundMaster;
use crate::cpython::object::Objects;
use crate::process::memory::{ProcessMemory, Snapshot};
use crate::process::procfs::ProcFs;
use crate::process::sock_diag;
use crate::process::sock_diag::Listening;
use observer_model::event::Pid;
use observer_model::fact::Listener;

/// A namespace: device and inode of its file (`namespaces(7)`).
type Namespace = (u64, u64);

/// One look at what listens; asks each network namespace once.
#[derive(Debug, Default)]
pub struct Look {
    namespaces: HashMap<Namespace, Listening>,
}

impl Look {
    /// The sockets that a master accepts connections from, those of the same address as one.
    ///
    /// # Errors
    /// When it went, or it or its namespace may not be looked at.
    pub fn at(&mut self, procfs: &ProcFs, found: &FoundMaster) -> io::Result<Vec<Listener>> {
        let pid = found.master.pid;
        let sockets = sockets(procfs, found)?;
        let listening = self.listening(procfs, pid)?;
        let listeners = sockets.iter().filter_map(|inode| listening.get(inode));
        Ok(summed(listeners))
    }

    fn listening(&mut self, procfs: &ProcFs, pid: Pid) -> io::Result<&Listening> {
        let path = procfs.root().join(format!("{pid}/ns/net"));
        let namespace = identity(&path)?;
        let entry = match self.namespaces.entry(namespace) {
            Entry::Occupied(asked) => return Ok(asked.into_mut()),
            Entry::Vacant(entry) => entry,
        };
        let own = identity(Path::new("/proc/self/ns/net"))?;
        let listening = if namespace == own {
            sock_diag::listening()?
        } else {
            listening_in(&path)?
        };
        Ok(entry.insert(listening))
    }
}

fn identity(path: &Path) -> io::Result<Namespace> {
    let file = fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Asks in another network namespace; needs `CAP_SYS_ADMIN`.
fn listening_in(path: &Path) -> io::Result<Listening> {
    let namespace = File::open(path)?;
    let asked = thread::Builder::new()
        .name("namespace".to_owned())
        .spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            sock_diag::listening()
        })?;
    let failed = |_| io::Error::other("the thread that asks in it failed");
    asked.join().map_err(failed)?
}

/// Inodes of the sockets that a master lets its workers accept from; where its memory does not
/// tell, of all it has.
fn sockets(procfs: &ProcFs, found: &FoundMaster) -> io::Result<BTreeSet<u64>> {
    let pid = found.master.pid;
    let told = found.reader.and_then(|reader| {
        let memory = Snapshot::new(ProcessMemory::new(pid));
        let objects = Objects::new(&memory, &reader.layout);
        reader.arbiter.listeners(&objects).ok()
    });
    Ok(match told {
        Some(fds) => fds
            .into_iter()
            .filter_map(|fd| procfs.socket(pid, fd))
            .collect(),
        None => procfs.sockets(pid)?.into_iter().collect(),
    })
}

/// `reuse_port` lets several sockets have the same address.
fn summed<'l>(listeners: impl Iterator<Item = &'l Listener>) -> Vec<Listener> {
    let mut by_address: BTreeMap<&str, Listener> = BTreeMap::new();
    for listener in listeners {
        let Some(sum) = by_address.get_mut(listener.address.as_str()) else {
            by_address.insert(&listener.address, listener.clone());
            continue;
        };
        sum.backlog = sum.backlog.saturating_add(listener.backlog);
        sum.limit = sum.limit.saturating_add(listener.limit);
        let drops = sum.drops.zip(listener.drops);
        sum.drops = drops.map(|(a, b)| a.saturating_add(b));
    }
    by_address.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gunicorn::found::Coverage;
    use observer_model::fact;
    use std::net::TcpListener;

    #[test]
    fn sockets_of_one_address_are_one_listener() {
        let listener = |address: &str, backlog, drops| Listener {
            address: address.to_owned(),
            backlog,
            limit: 100,
            drops,
        };
        let all = [
            listener("b:1", 1, Some(3)),
            listener("a:1", 2, Some(1)),
            listener("b:1", 4, Some(5)),
        ];
        let [a, b] = summed(all.iter()).try_into().unwrap();
        assert_eq!(a, all[1]);
        assert_eq!((b.backlog, b.limit, b.drops), (5, 200, Some(8)));
    }

    #[test]
    fn without_its_memory_all_that_a_process_listens_on_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let procfs = ProcFs::new("/proc").unwrap();
        let mut found = FoundMaster {
            master: fact::Master {
                pid: std::process::id(),
                ..fact::Master::default()
            },
            workers: Vec::new(),
            objects: HashMap::new(),
            coverage: Coverage::Socket(String::new()),
            interpreter: Err(String::new()),
            reader: None,
        };
        let mut look = Look::default();
        let listeners = look.at(&procfs, &found).unwrap();
        let expected = address.to_string();
        assert!(listeners.iter().any(|l| l.address == expected));
        found.master.pid = u32::MAX;
        assert!(look.at(&procfs, &found).is_err());
    }
}
