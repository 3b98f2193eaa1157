//! Total GIL wait of each process, from the maps of the programs.

use super::bpf_maps::{shared, take};
use anyhow::Result;
use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuHashMap};
use observer_model::event::Pid;
use probe_ebpf::abi::Gil;
use std::collections::BTreeMap;

/// Reads GIL waits.
pub struct GilWaits {
    gils: HashMap<MapData, u32, Gil>,
    waited_ns: PerCpuHashMap<MapData, u32, u64>,
}

impl GilWaits {
    /// Takes the map of the waits out of the object.
    ///
    /// # Errors
    /// When the object lacks a map.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            gils: shared(ebpf, "GILS")?,
            waited_ns: take(ebpf, "GIL_WAITED")?,
        })
    }

    /// Nanoseconds of finished waits, of each process whose GIL is known.
    #[must_use]
    pub fn read(&self) -> BTreeMap<Pid, u64> {
        let waited_ns = |pid| {
            let cpus = self.waited_ns.get(&pid, 0);
            cpus.map_or(0, |cpus| cpus.iter().sum())
        };
        let pids = self.gils.keys().flatten();
        pids.map(|pid| (pid, waited_ns(pid))).collect()
    }
}
