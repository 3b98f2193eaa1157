//! The programs and maps loaded in the kernel.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result};
use aya::{maps::loaded_maps, programs::loaded_programs};

/// Ids of everything loaded at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub programs: BTreeSet<u32>,
    pub maps: BTreeSet<u32>,
}

impl Loaded {
    /// Asks the kernel.
    pub fn now() -> Result<Self> {
        let programs = programs()?;
        let maps = loaded_maps()
            .map(|map| Ok(map.context("cannot list the kernel's maps")?.id()))
            .collect::<Result<_>>()?;
        Ok(Self { programs, maps })
    }

    /// Whether nothing is loaded that was not before. Maps are looked at once all programs are gone: to
    /// list a map opens it, and a map of programs that its last user leaves twice, before the kernel has
    /// emptied it, stays for ever (`prog_array_map_clear` of `kernel/bpf/arraymap.c`).
    pub fn is_gone_beyond(before: &Self) -> Result<bool> {
        Ok(programs()?.is_subset(&before.programs) && Self::now()?.maps.is_subset(&before.maps))
    }

    /// Programs and maps that were not loaded before.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> Self {
        Self {
            programs: &self.programs - &before.programs,
            maps: &self.maps - &before.maps,
        }
    }
}

fn programs() -> Result<BTreeSet<u32>> {
    let all = loaded_programs();
    all.map(|program| Ok(program.context("cannot list the kernel's programs")?.id()))
        .collect()
}

/// The kernel counts and times runs of programs until this is dropped.
pub struct RunTimes {
    before: String,
}

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl RunTimes {
    /// Starts measuring.
    pub fn measured() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("cannot read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for RunTimes {
    fn drop(&mut self) {
        // It only costs a little time.
        let _ = fs::write(SWITCH, &self.before);
    }
}
