//! The maps that userspace writes, and their clean-up after dead processes.

use super::places::Places;
use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::{Ebpf, Pod};
use probe_ebpf::abi::{
    CaptureBudget, Conn, Gil, MAX_PORTS, Mode, ObjectKey, Role, TARGET_PLACE_COUNT, Target, Thread,
    target_flags,
};
use probe_ebpf::gunicorn::Code;
use probe_ebpf::python::Layout;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::os::fd::AsFd as _;

/// Maps that userspace writes or cleans up.
pub struct BpfMaps {
    targets: HashMap<MapData, u32, Target>,
    target_places: Array<MapData, Target>,
    modes: Array<MapData, u32>,
    layouts: Array<MapData, Layout>,
    known_layouts: Vec<Layout>,
    conns: Conns,
    clients: HashMap<MapData, ObjectKey, u64>,
    codes: HashMap<MapData, ObjectKey, Code>,
    threads: HashMap<MapData, u64, Thread>,
    thread_places: Places<Thread>,
    capture_budget: Array<MapData, u64>,
    gils: HashMap<MapData, u32, Gil>,
    gil_waits: HashMap<MapData, u64, u64>,
}

impl BpfMaps {
    /// Takes the maps out of the object, but for those that other readers share.
    ///
    /// # Errors
    /// When the object lacks a map, or a map has another type.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            targets: shared(ebpf, "TARGETS")?,
            target_places: take(ebpf, "TARGET_PLACES")?,
            modes: take(ebpf, "MODES")?,
            layouts: take(ebpf, "LAYOUTS")?,
            known_layouts: Vec::new(),
            conns: Conns::new(ebpf)?,
            clients: take(ebpf, "CLIENTS")?,
            codes: take(ebpf, "CODES")?,
            threads: take(ebpf, "THREADS")?,
            thread_places: Places::new(ebpf, "THREAD_PLACES")?,
            capture_budget: take(ebpf, "CAPTURE_BUDGET")?,
            gils: shared(ebpf, "GILS")?,
            gil_waits: take(ebpf, "GIL_WAITS")?,
        })
    }

    /// The index of a layout in the map; adds a new layout.
    ///
    /// # Errors
    /// When the map is full.
    pub fn layout(&mut self, layout: &Layout) -> Result<u32> {
        if let Some(index) = self.known_layouts.iter().position(|known| known == layout) {
            return Ok(u32::try_from(index)?);
        }
        let index = u32::try_from(self.known_layouts.len())?;
        self.layouts
            .set(index, layout, 0)
            .context("cannot add an interpreter version: the LAYOUTS map is full")?;
        self.known_layouts.push(*layout);
        Ok(index)
    }

    /// Sets the hits that all deep captures together may use, over all time.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn grant_captures(&mut self, hits: u64) -> Result<()> {
        let granted = CaptureBudget::Granted as u32;
        self.capture_budget
            .set(granted, hits, 0)
            .context("cannot write the CAPTURE_BUDGET map")
    }

    /// The hits that all deep captures together have used, over all time.
    #[must_use]
    pub fn captures_used(&self) -> u64 {
        self.capture_budget
            .get(&(CaptureBudget::Used as u32), 0)
            .unwrap_or(0)
    }

    /// The target with this pid.
    #[must_use]
    pub fn target(&self, pid: u32) -> Option<Target> {
        self.targets.get(&pid, 0).ok()
    }

    /// Sets what reports sockets.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub(super) fn set_mode(&mut self, mode: Mode, is_so: bool) -> Result<()> {
        self.modes
            .set(mode as u32, u32::from(is_so), 0)
            .context("cannot write the MODES map")
    }

    /// Observes a process, or changes its role. An observed process keeps its generation, and with it
    /// its connections and requests.
    ///
    /// # Errors
    /// When the map is full.
    pub fn set_target(&mut self, pid: u32, role: Role, new: Target) -> Result<()> {
        let generation = self
            .target(pid)
            .map_or(new.generation, |known| known.generation);
        let target = Target {
            tgid: pid,
            role: role as u32,
            generation,
            ..new
        };
        self.targets
            .insert(pid, target, 0)
            .with_context(|| format!("cannot observe process {pid}: the TARGETS map is full"))?;
        let place = pid % TARGET_PLACE_COUNT;
        let mut there = self.target_places.get(&place, 0).unwrap_or_default();
        if there.generation == 0 || there.tgid == pid {
            let shared = there.flags & target_flags::SHARED;
            there = target;
            there.flags |= shared;
        } else {
            there.flags |= target_flags::SHARED;
        }
        self.target_places
            .set(place, there, 0)
            .with_context(|| format!("cannot observe process {pid}: TARGET_PLACES"))
    }

    /// Sets what distinguishes connections of an observed process: the ports of its listeners, none if
    /// they are too many, and whether it decrypts.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_listeners(&mut self, pid: u32, ports: &[u16], is_tls: bool) -> Result<()> {
        let Some(known) = self.target(pid) else {
            return Ok(());
        };
        let mut new = known;
        new.ports = [0; MAX_PORTS];
        if let Some(places) = new.ports.get_mut(..ports.len()) {
            places.copy_from_slice(ports);
        }
        new.flags = if is_tls {
            known.flags | target_flags::TLS
        } else {
            known.flags & !target_flags::TLS
        };
        match Role::from_raw(known.role) {
            Some(role) if new != known => self.set_target(pid, role, new),
            _ => Ok(()),
        }
    }

    /// Measures GIL waits of a process from now on, unless they are measured already.
    ///
    /// # Errors
    /// When the map is full.
    pub fn set_gil(&mut self, pid: u32, waited_on: Range<u64>) -> Result<()> {
        if self.gils.get(&pid, 0).is_ok() {
            return Ok(());
        }
        let gil = Gil {
            from: waited_on.start,
            to: waited_on.end,
        };
        self.gils.insert(pid, gil, 0).with_context(|| {
            format!("cannot measure GIL waits of process {pid}: the GILS map is full")
        })
    }

    /// Measures GIL waits of a process if those of its parent are measured.
    ///
    /// # Errors
    /// When the map is full.
    pub fn set_gil_as(&mut self, pid: u32, parent: u32) -> Result<()> {
        match self.gils.get(&parent, 0) {
            Ok(gil) => self.set_gil(pid, gil.from..gil.to),
            Err(_) => Ok(()),
        }
    }

    /// Stops to observe a process.
    pub fn remove_target(&mut self, pid: u32) {
        // The programs remove it when the process exits.
        let _ = self.targets.remove(&pid);
        let place = pid % TARGET_PLACE_COUNT;
        if let Ok(mut there) = self.target_places.get(&place, 0)
            && there.tgid == pid
        {
            there.generation = 0;
            let _ = self.target_places.set(place, there, 0);
        }
        let _ = self.gils.remove(&pid);
    }

    /// Stops to observe all processes.
    pub fn remove_targets(&mut self) {
        remove(&mut self.targets, |_| true);
    }

    /// Removes entries of dead processes, of bystanders that were candidates before, and of processes
    /// that died while they became targets: the programs saw no exit of those.
    pub fn sweep(&mut self, is_alive: impl Fn(u32) -> bool) {
        let targets: Vec<u32> = self.targets.keys().flatten().collect();
        for pid in targets {
            if !is_alive(pid) {
                self.remove_target(pid);
            }
        }
        let targets = &self.targets;
        let is_followed = |target: Target| target.role != Role::Bystander as u32;
        let followed: HashSet<u32> = targets
            .iter()
            .filter_map(|entry| entry.ok().filter(|&(_, target)| is_followed(target)))
            .map(|(pid, _)| pid)
            .collect();
        // Checks again for processes that were forked meanwhile.
        let dead =
            |tgid: u32| !followed.contains(&tgid) && !targets.get(&tgid, 0).is_ok_and(is_followed);
        self.conns.remove(|key| dead(key.tgid));
        remove(&mut self.clients, |key| dead(key.tgid));
        remove(&mut self.codes, |key| dead(key.tgid));
        remove(&mut self.gils, |pid| dead(*pid));
        remove(&mut self.gil_waits, |key| {
            u32::try_from(key >> 32).is_ok_and(dead)
        });
        remove(&mut self.threads, |key| {
            u32::try_from(key >> 32).is_ok_and(dead)
        });
        for (place, mut thread) in self.thread_places.all() {
            if thread.id != 0 && u32::try_from(thread.id >> 32).is_ok_and(dead) {
                thread.id = 0;
                self.thread_places.set(place, thread);
            }
        }
    }

    /// Number of entries in each map.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, u64> {
        [
            ("targets", count(&self.targets)),
            ("conns", self.conns.all().count() as u64),
            ("clients", count(&self.clients)),
            ("codes", count(&self.codes)),
            ("threads", count(&self.threads)),
            ("gils", count(&self.gils)),
            ("gil_waits", count(&self.gil_waits)),
        ]
        .into_iter()
        .map(|(name, entries)| (name.to_owned(), entries))
        .collect()
    }
}

/// The connections of observed processes, in two maps.
pub(super) struct Conns {
    places: Places<Conn>,
    others: HashMap<MapData, ObjectKey, Conn>,
}

impl Conns {
    /// Handles of the object's maps, which stay in the object.
    ///
    /// # Errors
    /// When the object lacks a map.
    pub(super) fn new(ebpf: &Ebpf) -> Result<Self> {
        Ok(Self {
            places: Places::new(ebpf, "CONN_PLACES")?,
            others: shared(ebpf, "CONNS")?,
        })
    }

    /// Every connection.
    pub(super) fn all(&self) -> impl Iterator<Item = Conn> {
        let places = self.places.all().map(|(_, conn)| conn);
        let others = self.others.iter().flatten().map(|(_, conn)| conn);
        places.filter(|conn| conn.key.address != 0).chain(others)
    }

    fn remove(&mut self, is_dead: impl Fn(&ObjectKey) -> bool) {
        for (place, mut conn) in self.places.all() {
            if conn.key.address != 0 && is_dead(&conn.key) {
                conn.key.address = 0;
                self.places.set(place, conn);
            }
        }
        remove(&mut self.others, is_dead);
    }
}

/// Takes a map out of the object.
pub(super) fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M> {
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| anyhow!("the eBPF object has no map {name}"))?;
    M::try_from(map).with_context(|| format!("the eBPF map {name}"))
}

/// Another handle of a map, which stays in the object.
pub(super) fn shared<K: Pod, V: Pod>(ebpf: &Ebpf, name: &str) -> Result<HashMap<MapData, K, V>> {
    let (map, kind): (_, fn(MapData) -> Map) = match ebpf.map(name) {
        Some(Map::HashMap(map)) => (map, Map::HashMap),
        Some(Map::LruHashMap(map)) => (map, Map::LruHashMap),
        _ => bail!("the eBPF object has no map {name}"),
    };
    let fd = map.fd().as_fd().try_clone_to_owned()?;
    let map = MapData::from_fd(fd).with_context(|| format!("the eBPF map {name}"))?;
    HashMap::try_from(kind(map)).with_context(|| format!("the eBPF map {name}"))
}

fn remove<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, is_dead: impl Fn(&K) -> bool) {
    // Collects first: removing an entry during a walk over the keys restarts the walk.
    let dead: Vec<K> = map.keys().flatten().filter(is_dead).collect();
    for key in dead {
        let _ = map.remove(&key);
    }
}

fn count<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>) -> u64 {
    map.keys().flatten().fold(0, |entries, _| entries + 1)
}
