//! Runs of programs that the kernel skipped, and the events that may be lost by that.

use crate::fact::ProgramTotals;
use std::collections::BTreeMap;

/// Suffix of the second of two programs that do the same.
const AGAIN: &str = "_again";

/// The most events that can be lost by skipped runs. Of two programs that do the same, only runs that
/// both skipped count.
pub fn lost(programs: &BTreeMap<String, ProgramTotals>) -> u64 {
    let misses = |name: &str| programs.get(name).map(|it| it.recursion_misses);
    let lost = programs.iter().map(|(name, program)| {
        let is_second = name
            .strip_suffix(AGAIN)
            .is_some_and(|first| programs.contains_key(first));
        let second = misses(&format!("{name}{AGAIN}"));
        match (is_second, second) {
            (true, _) => 0,
            (false, Some(second)) => program.recursion_misses.min(second),
            (false, None) => program.recursion_misses,
        }
    });
    lost.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_that_both_of_two_programs_skipped_may_be_lost() {
        let programs = [
            ("exit_recvfrom", 7),
            ("exit_recvfrom_again", 2),
            ("enter_close", 0),
            ("enter_close_again", 5),
            ("process_fork", 1),
        ];
        let totals = programs.map(|(name, recursion_misses)| {
            let totals = ProgramTotals {
                recursion_misses,
                ..ProgramTotals::default()
            };
            (name.to_owned(), totals)
        });
        assert_eq!(lost(&totals.into()), 3);
    }
}
