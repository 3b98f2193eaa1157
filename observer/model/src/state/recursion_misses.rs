//! Runs of eBPF programs that the kernel skipped, and the events that were lost by it.

use crate::fact::ProgramTotals;
use std::collections::BTreeMap;

/// Suffix of a backup program's name, behind the name of the program that it backs up.
const BACKUP: &str = "_backup";

/// The most events that can have been lost: of a program and its backup, those that both may have
/// missed.
pub fn lost(programs: &BTreeMap<String, ProgramTotals>) -> u64 {
    let misses = |name: &str| programs.get(name).map(|it| it.recursion_misses);
    let lost = programs.iter().map(|(name, program)| {
        let is_backup = name
            .strip_suffix(BACKUP)
            .is_some_and(|first| programs.contains_key(first));
        let backup = misses(&format!("{name}{BACKUP}"));
        match (is_backup, backup) {
            (true, _) => 0,
            (false, Some(backup)) => program.recursion_misses.min(backup),
            (false, None) => program.recursion_misses,
        }
    });
    lost.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_that_program_and_backup_both_missed_count_as_lost() {
        let programs = [
            ("exit_recvfrom", 7),
            ("exit_recvfrom_backup", 2),
            ("enter_close", 0),
            ("enter_close_backup", 5),
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
