//! What the kernel counts of a loaded program.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// The numbers in a program's `fdinfo`, by name (`bpf_prog_show_fdinfo` in `kernel/bpf/syscall.c`).
pub struct ProgramInfo(BTreeMap<String, u64>);

impl ProgramInfo {
    /// Reads those of a program.
    pub(super) fn of(program: BorrowedFd<'_>) -> Self {
        let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
        Self::parse(&std::fs::read_to_string(path).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let numbers = lines.filter_map(|(name, value)| {
            let value = value.trim().parse().ok()?;
            Some((name.to_owned(), value))
        });
        Self(numbers.collect())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Runs while the kernel counted them, if there were any.
    pub(super) fn runs(&self) -> Option<u64> {
        self.number("run_cnt").filter(|&runs| runs > 0)
    }

    /// Nanoseconds of these runs.
    pub(super) fn run_time_ns(&self) -> Option<u64> {
        self.number("run_time_ns")
    }

    /// Runs that the kernel skipped because the program was running on that CPU.
    pub(super) fn recursion_misses(&self) -> u64 {
        self.number("recursion_misses").unwrap_or(0)
    }

    /// Instructions that the verifier walked; unknown before Linux 5.16.
    #[must_use]
    pub fn walked(&self) -> Option<u64> {
        self.number("verified_insns")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_is_read_by_name_and_text_is_skipped() {
        let info = ProgramInfo::parse(
            "pos:\t0\nprog_tag:\t1a2b\nrun_cnt:\t12\nrun_time_ns:\t900\nrecursion_misses:\t3\n",
        );
        assert_eq!((info.runs(), info.run_time_ns()), (Some(12), Some(900)));
        assert_eq!((info.recursion_misses(), info.walked()), (3, None));
        assert_eq!(info.number("prog_tag"), None);
    }
}
