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
        let programs = loaded_programs()
            .map(|program| Ok(program.context("cannot list the kernel's programs")?.id()))
            .collect::<Result<_>>()?;
        let maps = loaded_maps()
            .map(|map| Ok(map.context("cannot list the kernel's maps")?.id()))
            .collect::<Result<_>>()?;
        Ok(Self { programs, maps })
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
