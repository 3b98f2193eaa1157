//! The sockets that masters listen on, with their backlog.
//!
//! The kernel lists the sockets of the calling thread's network namespace only: a short-lived thread
//! enters each other namespace. No namespace is held open: it would outlive its container.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::found::FoundMaster;
use crate::cpython::object::Objects;
use crate::process::memory::{ProcessMemory, Snapshot};
use crate::process::procfs::ProcFs;
use crate::process::sock_diag;
use crate::process::sock_diag::{Listening, UNIX_PREFIX};
use observer_model::event::Pid;
use observer_model::fact::Listener;

/// A namespace: device and inode of its file (`namespaces(7)`).
type Namespace = (u64, u64);

/// Reads the listeners of masters; lists the sockets of each network namespace once.
#[derive(Debug, Default)]
pub struct ListenerReader {
    namespaces: HashMap<Namespace, Listening>,
}

impl ListenerReader {
    /// The sockets that a master accepts connections from; sockets of one address count as one.
    ///
    /// # Errors
    /// When the master exited, or it or its namespace cannot be read.
    pub fn of_master(&mut self, procfs: &ProcFs, found: &FoundMaster) -> io::Result<Vec<Listener>> {
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
            Entry::Occupied(known) => return Ok(known.into_mut()),
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

/// What distinguishes the connections of a master's workers from their other sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listens {
    /// TCP ports, without duplicates.
    pub ports: Vec<u16>,
    pub has_unix: bool,
}

impl Listens {
    /// That of these listeners.
    #[must_use]
    pub fn on(listeners: &[Listener]) -> Self {
        let addresses = listeners.iter().map(|listener| &listener.address);
        let port = |address: &String| Some(address.parse::<SocketAddr>().ok()?.port());
        let ports: BTreeSet<u16> = addresses.clone().filter_map(port).collect();
        Self {
            ports: ports.into_iter().collect(),
            has_unix: addresses.clone().any(|it| it.starts_with(UNIX_PREFIX)),
        }
    }
}

/// Whether the workers of a master decrypt by themselves; not if its memory cannot be read.
#[must_use]
pub fn is_tls(found: &FoundMaster) -> bool {
    found.reader.is_some_and(|reader| {
        let memory = Snapshot::new(ProcessMemory::new(found.master.pid));
        let objects = Objects::new(&memory, &reader.layout);
        reader.arbiter.is_tls(&objects).unwrap_or(false)
    })
}

fn identity(path: &Path) -> io::Result<Namespace> {
    let file = fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// The sockets of another network namespace; needs `CAP_SYS_ADMIN`.
fn listening_in(path: &Path) -> io::Result<Listening> {
    let namespace = File::open(path)?;
    let thread = thread::Builder::new()
        .name("namespace".to_owned())
        .spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            sock_diag::listening()
        })?;
    let failed = |_| io::Error::other("the thread in the namespace failed");
    thread.join().map_err(failed)?
}

/// Inodes of the sockets that workers of a master accept from; of all its sockets if its memory
/// cannot be read.
fn sockets(procfs: &ProcFs, found: &FoundMaster) -> io::Result<BTreeSet<u64>> {
    let pid = found.master.pid;
    let fds = found.reader.and_then(|reader| {
        let memory = Snapshot::new(ProcessMemory::new(pid));
        let objects = Objects::new(&memory, &reader.layout);
        reader.arbiter.listeners(&objects).ok()
    });
    Ok(match fds {
        Some(fds) => fds
            .into_iter()
            .filter_map(|fd| procfs.socket(pid, fd))
            .collect(),
        None => procfs.sockets(pid)?.into_iter().collect(),
    })
}

/// With `reuse_port` several sockets have the same address.
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
    fn without_its_memory_every_listening_socket_of_a_process_is_found() {
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
            coverage: Coverage::Socket("".into()),
            interpreter: Err("".into()),
            reader: None,
        };
        let mut reader = ListenerReader::default();
        let listeners = reader.of_master(&procfs, &found).unwrap();
        let expected = address.to_string();
        assert!(listeners.iter().any(|l| l.address == expected));
        found.master.pid = u32::MAX;
        assert!(reader.of_master(&procfs, &found).is_err());
    }
}
