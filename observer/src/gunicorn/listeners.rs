//! The sockets that masters and their workers listen on, with their backlog.
//!
//! With `reuse_port` the master of Gunicorn 24.0 and later has no socket: each worker opens its own.
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

/// Listening sockets by their inode.
pub type Sockets = BTreeMap<u64, Listener>;

/// Workers whose own sockets are read: no Gunicorn has as many.
const MAX_WORKERS: usize = 1024;
/// Addresses without a socket whose drops are remembered.
const MAX_CLOSED: usize = 64;
/// A worker's attributes and its sockets are on some dozen pages.
const MAX_PAGES: usize = 128;

/// Reads the listeners of masters; lists the sockets of each network namespace once.
#[derive(Debug, Default)]
pub struct ListenerReader {
    namespaces: HashMap<Namespace, Listening>,
    /// Workers whose own sockets were read.
    pub workers_read: usize,
}

impl ListenerReader {
    /// The sockets that the workers of a master accept connections from, and all that listen in its network
    /// namespace. These are the master's, or those that its workers opened themselves if it has none.
    ///
    /// # Errors
    /// When the master exited, or it or its namespace cannot be read.
    pub fn of_master(
        &mut self,
        procfs: &ProcFs,
        found: &FoundMaster,
    ) -> io::Result<(Sockets, &Listening)> {
        let pid = found.master.pid;
        let inodes = sockets(procfs, found)?;
        let Self {
            namespaces,
            workers_read,
        } = self;
        let listening = listening(namespaces, procfs, pid)?;
        let of = |inode: u64| Some((inode, listening.get(&inode)?.clone()));
        let sockets: Sockets = inodes.into_iter().filter_map(of).collect();
        if !sockets.is_empty() {
            return Ok((sockets, listening));
        }
        let workers = found.workers.iter().take(MAX_WORKERS);
        *workers_read += workers.len();
        let of_workers = workers.flat_map(|worker| sockets_of_worker(procfs, found, worker.pid));
        Ok((of_workers.filter_map(of).collect(), listening))
    }
}

/// The sockets that listen in the network namespace of a process.
fn listening<'n>(
    namespaces: &'n mut HashMap<Namespace, Listening>,
    procfs: &ProcFs,
    pid: Pid,
) -> io::Result<&'n Listening> {
    let path = procfs.root().join(format!("{pid}/ns/net"));
    let namespace = identity(&path)?;
    let entry = match namespaces.entry(namespace) {
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

/// What distinguishes the connections of a master's workers from their other sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listens {
    /// TCP ports, without duplicates.
    pub ports: Vec<u16>,
    pub has_unix: bool,
}

impl Listens {
    /// That of these sockets.
    #[must_use]
    pub fn on(sockets: &Sockets) -> Self {
        let addresses = sockets.values().map(|listener| &listener.address);
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

/// Inodes of the sockets in `Worker.sockets`; of all sockets of the worker if its memory cannot be read.
fn sockets_of_worker(procfs: &ProcFs, found: &FoundMaster, pid: Pid) -> Vec<u64> {
    let (Some(reader), Some(object)) = (found.reader, found.objects.get(&pid)) else {
        return procfs.sockets(pid).unwrap_or_default();
    };
    let memory = Snapshot::with_max_pages(ProcessMemory::new(pid), MAX_PAGES);
    let fds = object.listeners(&Objects::new(&memory, &reader.layout));
    let fds = fds.unwrap_or_default().into_iter();
    fds.filter_map(|fd| procfs.socket(pid, fd)).collect()
}

/// The listeners of one master over time: the sockets of one address are one listener, whose drops
/// never fall.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Its open sockets, also one that was not found lately.
    open: Sockets,
    /// Drops of sockets that were closed, by address.
    closed: BTreeMap<String, u64>,
}

impl Listeners {
    /// Takes the current sockets, of those that listen in its network namespace, and returns the listeners.
    /// Their drops include those of closed sockets, as of the last time that these were read.
    pub fn update(&mut self, sockets: Sockets, listening: &Listening) -> Vec<Listener> {
        let mut listeners = summed(sockets.values());
        for (inode, was) in std::mem::replace(&mut self.open, sockets) {
            let is = listening.get(&inode);
            // The inode may be that of another socket by now.
            let is_same = |is: &&Listener| is.address == was.address && is.drops >= was.drops;
            if let Some(is) = is.filter(is_same) {
                // One that was not found is open all the same: its worker could not be read.
                self.open.entry(inode).or_insert_with(|| is.clone());
            } else if let Some(drops) = was.drops.filter(|&drops| drops > 0) {
                let sum = self.closed.entry(was.address).or_default();
                *sum = sum.saturating_add(drops);
            }
        }
        for listener in &mut listeners {
            let of = |socket: &&Listener| socket.address == listener.address;
            let open = self.open.values().filter(of);
            let open = open.map(|socket| socket.drops.unwrap_or(0));
            let closed = self.closed.get(&listener.address).copied();
            let all = open.chain(closed).fold(0, u64::saturating_add);
            listener.drops = listener.drops.map(|_| all);
        }
        if self.closed.len() > MAX_CLOSED {
            let is_open = |address: &str| listeners.iter().any(|it| it.address == address);
            self.closed.retain(|address, _| is_open(address));
        }
        listeners
    }
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

    fn socket(address: &str, drops: u64) -> Listener {
        Listener {
            address: address.to_owned(),
            backlog: 1,
            limit: 100,
            drops: Some(drops),
        }
    }

    #[test]
    fn drops_of_closed_sockets_stay_counted() {
        let mut listeners = Listeners::default();
        let mut drops = |sockets: &[(u64, &str, u64)]| {
            let of = |&(inode, address, drops): &(u64, &str, u64)| (inode, socket(address, drops));
            let all = sockets.iter().map(of).collect();
            let listeners = listeners.update(sockets.iter().map(of).collect(), &all);
            let of = |it: Listener| (it.address, it.limit, it.drops.unwrap());
            listeners.into_iter().map(of).collect::<Vec<_>>()
        };
        let of = |address: &str, limit, drops| (address.to_owned(), limit, drops);
        assert_eq!(drops(&[(1, "a", 3), (2, "a", 4)]), [of("a", 200, 7)]);
        // One worker is replaced by another, whose socket is new.
        assert_eq!(drops(&[(2, "a", 5), (3, "a", 1)]), [of("a", 200, 9)]);
        // All exited, and others follow.
        assert_eq!(drops(&[]), []);
        assert_eq!(drops(&[(4, "a", 0)]), [of("a", 100, 9)]);
        // The number of a closed socket is given to another one.
        assert_eq!(drops(&[(4, "a", 2)]), [of("a", 100, 11)]);
        assert_eq!(drops(&[(4, "a", 1)]), [of("a", 100, 12)]);
        assert_eq!(drops(&[(4, "b", 1)]), [of("b", 100, 1)]);
    }

    #[test]
    fn drops_of_a_socket_that_is_not_found_for_a_moment_count_once() {
        let mut listeners = Listeners::default();
        let both: Sockets = [(1, socket("a", 3)), (2, socket("a", 4))].into();
        let all = both.clone().into_iter().collect();
        let one: Sockets = [(1, socket("a", 3))].into();
        for (sockets, limit) in [(&both, 200), (&one, 100), (&both, 200)] {
            let [a] = listeners.update(sockets.clone(), &all).try_into().unwrap();
            assert_eq!((a.limit, a.drops), (limit, Some(7)));
        }
    }

    #[test]
    fn the_drops_of_few_closed_addresses_are_kept() {
        let mut listeners = Listeners::default();
        let mut update = |inode: u64| {
            let of = |inode, name| (inode, socket(name, 1));
            let port = inode.to_string();
            let sockets: Sockets = [of(0, "kept"), of(inode, &port)].into();
            let all = sockets.clone().into_iter().collect();
            listeners.update(sockets, &all);
            listeners.closed.len()
        };
        assert!(
            (1..1000)
                .map(&mut update)
                .all(|kept| kept <= MAX_CLOSED + 1)
        );
        let all = [(5000, socket("kept", 0))];
        let kept = listeners.update(all.clone().into(), &all.into());
        assert_eq!(kept[0].drops, Some(1));
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
        let (sockets, _) = reader.of_master(&procfs, &found).unwrap();
        let expected = address.to_string();
        assert!(sockets.values().any(|l| l.address == expected));
        found.master.pid = u32::MAX;
        assert!(reader.of_master(&procfs, &found).is_err());
    }
}
