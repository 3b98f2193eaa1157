//! The programs' maps, as far as userspace writes or sweeps them.

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::{Ebpf, Pod};
use probe_ebpf::abi::{Conn, ConnKey, Flow, Gil, LookWord, ObjectKey, Role, Target, Thread};
use probe_ebpf::gunicorn::Code;
use probe_ebpf::python::Layout;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::os::fd::AsFd as _;

/// Maps that userspace owns a hand in.
pub struct Tables {
    targets: HashMap<MapData, u32, Target>,
    layouts: Array<MapData, Layout>,
    known_layouts: Vec<Layout>,
    conns: HashMap<MapData, ConnKey, Conn>,
    flows: HashMap<MapData, ObjectKey, Flow>,
    clients: HashMap<MapData, ObjectKey, i32>,
    codes: HashMap<MapData, ObjectKey, Code>,
    threads: HashMap<MapData, u64, Thread>,
    look: Array<MapData, u64>,
    gils: HashMap<MapData, u32, Gil>,
    gil_waits: HashMap<MapData, u64, u64>,
}

impl Tables {
    /// Takes the maps out of the loaded object.
    ///
    /// # Errors
    /// When the object lacks one, or it is of another type.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            targets: take(ebpf, "TARGETS")?,
            layouts: take(ebpf, "LAYOUTS")?,
            known_layouts: Vec::new(),
            conns: take(ebpf, "CONNS")?,
            flows: take(ebpf, "FLOWS")?,
            clients: take(ebpf, "CLIENTS")?,
            codes: take(ebpf, "CODES")?,
            threads: take(ebpf, "THREADS")?,
            look: take(ebpf, "LOOK")?,
            gils: take(ebpf, "GILS")?,
            gil_waits: take(ebpf, "GIL_WAITS")?,
        })
    }

    /// The index of a layout, new or known.
    ///
    /// # Errors
    /// When there are more layouts than the map holds.
    pub fn layout(&mut self, layout: &Layout) -> Result<u32> {
        if let Some(index) = self.known_layouts.iter().position(|known| known == layout) {
            return Ok(u32::try_from(index)?);
        }
        let index = u32::try_from(self.known_layouts.len())?;
        self.layouts
            .set(index, layout, 0)
            .context("no room for another interpreter version")?;
        self.known_layouts.push(*layout);
        Ok(index)
    }

    /// Lets closer looks have so many hits, all told.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn grant_look(&mut self, hits: u64) -> Result<()> {
        let granted = LookWord::Granted as u32;
        self.look
            .set(granted, hits, 0)
            .context("beginning a closer look")
    }

    /// How many they had.
    #[must_use]
    pub fn look_used(&self) -> u64 {
        self.look.get(&(LookWord::Used as u32), 0).unwrap_or(0)
    }

    /// The target a process is.
    #[must_use]
    pub fn target(&self, pid: u32) -> Option<Target> {
        self.targets.get(&pid, 0).ok()
    }

    /// Observes a process, or changes what it is taken for. A process that is
    /// observed already keeps its generation: what is known of it stays.
    ///
    /// # Errors
    /// When the map is full.
    pub fn set_target(&mut self, pid: u32, role: Role, new: Target) -> Result<()> {
        let generation = self
            .target(pid)
            .map_or(new.generation, |known| known.generation);
        let target = Target {
            role: role as u32,
            generation,
            ..new
        };
        self.targets.insert(pid, target, 0).with_context(|| {
            format!("cannot observe process {pid}: more processes than the TARGETS map holds")
        })
    }

    /// Counts waits for the GIL of a process from now on; of one whose are counted already,
    /// nothing changes.
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
        self.gils
            .insert(pid, gil, 0)
            .with_context(|| format!("no room for the GIL of process {pid}"))
    }

    /// Likewise of a process that was forked by another one whose are.
    ///
    /// # Errors
    /// Likewise.
    pub fn set_gil_as(&mut self, pid: u32, parent: u32) -> Result<()> {
        match self.gils.get(&parent, 0) {
            Ok(gil) => self.set_gil(pid, gil.from..gil.to),
            Err(_) => Ok(()),
        }
    }

    /// Observes a process no more.
    pub fn remove_target(&mut self, pid: u32) {
        // It may have gone by itself.
        let _ = self.targets.remove(&pid);
        let _ = self.gils.remove(&pid);
    }

    /// Observes nothing any more.
    pub fn remove_targets(&mut self) {
        remove(&mut self.targets, |_| true);
    }

    /// Removes all that dead processes left behind, and those that died while
    /// they were made targets: of them the programs saw no end. So is what a bystander left that
    /// was a candidate before.
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
        // One that was forked meanwhile is asked for again.
        let dead =
            |tgid: u32| !followed.contains(&tgid) && !targets.get(&tgid, 0).is_ok_and(is_followed);
        remove(&mut self.conns, |key| dead(key.tgid));
        remove(&mut self.flows, |key| dead(key.tgid));
        remove(&mut self.clients, |key| dead(key.tgid));
        remove(&mut self.codes, |key| dead(key.tgid));
        remove(&mut self.gils, |pid| dead(*pid));
        remove(&mut self.gil_waits, |key| {
            u32::try_from(key >> 32).is_ok_and(dead)
        });
        remove(&mut self.threads, |key| {
            u32::try_from(key >> 32).is_ok_and(dead)
        });
    }

    /// How many entries each map has.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, u64> {
        [
            ("targets", count(&self.targets)),
            ("conns", count(&self.conns)),
            ("flows", count(&self.flows)),
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

fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M> {
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| anyhow!("the eBPF object has no map {name}"))?;
    M::try_from(map).with_context(|| format!("the eBPF map {name}"))
}

/// Another handle of a map, which stays with the object.
pub(super) fn shared<K: Pod, V: Pod>(ebpf: &Ebpf, name: &str) -> Result<HashMap<MapData, K, V>> {
    let Some(Map::HashMap(map)) = ebpf.map(name) else {
        bail!("the eBPF object has no map {name}");
    };
    let fd = map.fd().as_fd().try_clone_to_owned()?;
    let map = MapData::from_fd(fd).with_context(|| format!("the eBPF map {name}"))?;
    HashMap::try_from(Map::HashMap(map)).with_context(|| format!("the eBPF map {name}"))
}

fn remove<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, is_dead: impl Fn(&K) -> bool) {
    // An entry removed while keys are walked makes the walk start over: collect first.
    let dead: Vec<K> = map.keys().flatten().filter(is_dead).collect();
    for key in dead {
        let _ = map.remove(&key);
    }
}

fn count<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>) -> u64 {
    map.keys().flatten().fold(0, |entries, _| entries + 1)
}
