//! Runs of programs that the kernel skipped, and what that may have cost.

use crate::fact::ProgramTotals;
use std::collections::BTreeMap;

/// How the second of two programs that do the same is named after the first.
const AGAIN: &str = "_again";

/// The most that can have been lost by programs that the kernel skipped: of two that do the same, what
/// both may have missed at once.
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
    fn only_what_both_of_two_programs_missed_may_be_lost() {
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
