//! Statistics of the programs: their own counters, and the kernel's of each program.

use super::bpf_maps::take;
use super::program_info::ProgramInfo;
use super::status::{Inner, Loaded, Status};
use anyhow::Result;
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use observer_model::fact::{KernelTotals, ProgramTotals};
use probe_ebpf::abi::Stat;
use std::os::fd::AsFd as _;

/// Reads the statistics.
pub struct ProgramStats {
    counters: PerCpuArray<MapData, u64>,
    status: Status,
}

impl ProgramStats {
    /// Takes the counters out of the object.
    ///
    /// # Errors
    /// When the object lacks the counters.
    pub(super) fn take(ebpf: &mut Ebpf, status: Status) -> Result<Self> {
        Ok(Self {
            counters: take(ebpf, "STATS")?,
            status,
        })
    }

    /// The statistics now, of the programs that are loaded now.
    #[must_use]
    pub fn read(&self) -> KernelTotals {
        let mut totals = KernelTotals::default();
        for &(stat, name, is_loss) in Stat::ALL {
            let cpus = self.counters.get(&(stat as u32), 0);
            let value = cpus.map_or(0, |cpus| cpus.iter().sum());
            let kind = if is_loss {
                &mut totals.lost
            } else {
                &mut totals.counts
            };
            kind.insert(name.to_owned(), value);
        }
        let status = self.status.read();
        let features = status.features.iter();
        totals.features = features
            .map(|(name, why)| ((*name).to_owned(), why.clone()))
            .collect();
        let programs = status.programs.iter();
        totals.programs = programs
            .filter(|program| program.row.is_attached())
            .map(|program| (program.name.to_owned(), totals_of(program, &status)))
            .collect();
        totals
    }
}

fn totals_of(program: &Loaded, status: &Inner) -> ProgramTotals {
    let info = ProgramInfo::of(program.fd.as_fd());
    let runs = info.runs();
    ProgramTotals {
        attached: status.attached(program),
        recursion_misses: info.recursion_misses(),
        runs,
        run_time_ns: runs.and(info.run_time_ns()),
    }
}
