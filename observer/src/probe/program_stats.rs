//! Statistics of the programs: their own counters, and the kernel's of each program.

use super::absent::Absent;
use super::attachments::Attachments;
use super::bpf_maps::take;
use super::features::{Feature, Program, programs_of};
use anyhow::Result;
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use observer_model::fact::{KernelTotals, ProgramTotals};
use probe_ebpf::abi::Stat;
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

/// Reads the statistics; holds the descriptors for that.
pub struct ProgramStats {
    counters: PerCpuArray<MapData, u64>,
    programs: Vec<Counted>,
    attachments: Attachments,
    /// Why each feature is absent; empty if it is available.
    features: BTreeMap<String, String>,
}

/// A program that the kernel counts runs of.
struct Counted {
    name: &'static str,
    feature: &'static Feature,
    row: &'static Program,
    fd: OwnedFd,
}

impl ProgramStats {
    /// Takes the counters out of the object, and opens the programs of available features.
    ///
    /// # Errors
    /// When the object lacks the counters, or a descriptor cannot be copied.
    pub(super) fn take(
        ebpf: &mut Ebpf,
        features: &[&'static Feature],
        attachments: Attachments,
        absent: &Absent,
    ) -> Result<Self> {
        let mut programs = Vec::new();
        for (feature, row) in programs_of(features.iter().copied()) {
            if absent.why(feature).is_some() || !row.is_attached() {
                continue;
            }
            for name in [Some(row.name), row.backup()].into_iter().flatten() {
                // A backup is loaded on some kernels only.
                if let Some(Ok(fd)) = ebpf.program(name).map(|program| program.fd()) {
                    programs.push(Counted {
                        name,
                        feature,
                        row,
                        fd: fd.as_fd().try_clone_to_owned()?,
                    });
                }
            }
        }
        let features = features.iter().map(|feature| {
            let why = absent.why(feature).map(|refusal| refusal.why.clone());
            (feature.name.to_owned(), why.unwrap_or_default())
        });
        Ok(Self {
            counters: take(ebpf, "STATS")?,
            programs,
            attachments,
            features: features.collect(),
        })
    }

    /// The statistics now.
    #[must_use]
    pub fn read(&self) -> KernelTotals {
        let mut totals = KernelTotals {
            features: self.features.clone(),
            ..KernelTotals::default()
        };
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
        let programs = self.programs.iter();
        totals.programs = programs
            .map(|program| (program.name.to_owned(), self.of(program)))
            .collect();
        totals
    }

    fn of(&self, program: &Counted) -> ProgramTotals {
        let path = format!("/proc/self/fdinfo/{}", program.fd.as_raw_fd());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let info = parse_info(&text);
        let runs = info.get("run_cnt").copied().filter(|&runs| runs > 0);
        ProgramTotals {
            attached: self.attachments.of(program.feature, program.row),
            recursion_misses: info.get("recursion_misses").copied().unwrap_or(0),
            runs,
            run_time_ns: runs.and(info.get("run_time_ns").copied()),
        }
    }
}

/// The numbers in a program's `fdinfo` (`bpf_prog_show_fdinfo` in `kernel/bpf/syscall.c`).
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
    fn fdinfo_is_read_by_name_and_text_is_skipped() {
        let info = parse_info("pos:\t0\nprog_tag:\t1a2b\nrun_cnt:\t12\nrecursion_misses:\t3\n");
        assert_eq!(info.get("run_cnt"), Some(&12));
        assert_eq!(info.get("recursion_misses"), Some(&3));
        assert_eq!(info.get("prog_tag"), None);
    }
}
