//! Running totals of the programs: what they counted, what the kernel counts of them.

use super::features::{Absent, FEATURES};
use super::interpreters::Counts;
use super::programs::{self, When};
use anyhow::{Context as _, Result, anyhow};
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use observer_model::fact::{KernelTotals, ProgramTotals};
use probe_ebpf::abi::Stat;
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Reads the totals; holds what that needs.
pub struct Totals {
    stats: PerCpuArray<MapData, u64>,
    programs: Vec<(&'static str, When, OwnedFd)>,
    places: Places,
    /// Why each feature is absent; empty if it is not.
    features: BTreeMap<String, String>,
}

/// At how many places programs are attached that are not always.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Those on interpreters.
    pub interpreters: Counts,
    /// Each of those on calls that every process makes.
    pub plain_calls: Arc<AtomicU32>,
    /// Each of those on waits for the GIL.
    pub gil: u32,
}

impl Totals {
    /// Takes the counters out of the loaded object.
    ///
    /// # Errors
    /// When the object lacks the counters or a program.
    pub fn take(ebpf: &mut Ebpf, places: Places, absent: &Absent) -> Result<Self> {
        let stats = ebpf
            .take_map("STATS")
            .ok_or_else(|| anyhow!("the eBPF object has no STATS"))?;
        let is_loaded = |name| {
            ebpf.program(name)
                .is_some_and(|program| program.fd().is_ok())
        };
        let programs = programs::all()
            .chain(programs::second())
            .filter(|&(name, _)| absent.allows(name) && is_loaded(name))
            .map(|(name, when)| {
                let program = ebpf
                    .program(name)
                    .with_context(|| format!("no program {name}"))?;
                Ok((name, when, program.fd()?.as_fd().try_clone_to_owned()?))
            })
            .collect::<Result<_>>()?;
        let features = FEATURES.iter().map(|feature| {
            let why = absent.why(feature).map(|refusal| refusal.why.clone());
            (feature.name.to_owned(), why.unwrap_or_default())
        });
        Ok(Self {
            stats: stats.try_into()?,
            programs,
            places,
            features: features.collect(),
        })
    }

    /// The totals now.
    #[must_use]
    pub fn read(&self) -> KernelTotals {
        let mut totals = KernelTotals {
            features: self.features.clone(),
            ..KernelTotals::default()
        };
        for &(stat, name, is_loss) in Stat::ALL {
            let value = self
                .stats
                .get(&(stat as u32), 0)
                .map_or(0, |cpus| cpus.iter().sum());
            let kind = if is_loss {
                &mut totals.lost
            } else {
                &mut totals.counts
            };
            kind.insert(name.to_owned(), value);
        }
        totals.programs = self
            .programs
            .iter()
            .map(|program| self.program(program))
            .collect();
        totals
    }

    fn program(&self, (name, when, fd): &(&str, When, OwnedFd)) -> (String, ProgramTotals) {
        let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let info = parse_info(&text);
        let runs = info.get("run_cnt").copied().filter(|&runs| runs > 0);
        let attached = match when {
            When::Always => 1,
            When::Interpreters(uprobe) => self.places.interpreters.of(*uprobe),
            When::Gil => self.places.gil,
            When::Needed => self.places.plain_calls.load(Ordering::Relaxed),
        };
        let totals = ProgramTotals {
            attached,
            recursion_misses: info.get("recursion_misses").copied().unwrap_or(0),
            runs,
            run_time_ns: runs.and(info.get("run_time_ns").copied()),
        };
        ((*name).to_owned(), totals)
    }
}

/// The numbers of a program's `fdinfo` (`bpf_prog_show_fdinfo` in `kernel/bpf/syscall.c`).
fn parse_info(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter_map(|(name, value)| Some((name, value.trim().parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_program_are_read_by_name() {
        let info = parse_info("pos:\t0\nprog_tag:\t1a2b\nrun_cnt:\t12\nrecursion_misses:\t3\n");
        assert_eq!(info.get("run_cnt"), Some(&12));
        assert_eq!(info.get("recursion_misses"), Some(&3));
        assert_eq!(info.get("prog_tag"), None);
    }
}
