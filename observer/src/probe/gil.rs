//! How long threads of each process waited for the GIL, as the programs count it.

use crate::probe::bpf_maps::shared;
use anyhow::{Result, anyhow};
use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuHashMap};
use observer_model::event::Pid;
use probe_ebpf::abi::Gil;
use std::collections::BTreeMap;

/// Reads the programs' counts.
pub struct GilWaits {
    gils: HashMap<MapData, u32, Gil>,
    waited_ns: PerCpuHashMap<MapData, u32, u64>,
}

impl GilWaits {
    /// Of the loaded object, in which the map of those that are counted stays.
    ///
    /// # Errors
    /// When it has none.
    pub fn of(ebpf: &mut Ebpf) -> Result<Self> {
        let waited_ns = ebpf.take_map("GIL_WAITED");
        let waited_ns = waited_ns.ok_or_else(|| anyhow!("the eBPF object has no GIL_WAITED"))?;
        Ok(Self {
            gils: shared(ebpf, "GILS")?,
            waited_ns: waited_ns.try_into()?,
        })
    }

    /// The waits that are over, in nanoseconds, of each process whose are counted.
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
