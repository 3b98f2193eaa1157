//! The kernel's own overhead of a hit: time that an empty program adds to a call inside a request, and
//! run time that the kernel reports for it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use end_to_end::{gunicorn::Builder, kernel::RunTimes};

use super::{
    Effort,
    hooks::{Calls, Hooks, Kind, Runs},
    spread::{Spread, between_neighbours, midmean},
    stand::{self, Served},
};
use crate::workspace::Workspace;

/// A hit of an empty program.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    /// Nanoseconds that it adds.
    pub ns: Spread,
    /// Run time by `kernel.bpf_stats_enabled`, nearly all of it the measurement itself.
    pub empty_run_ns: f64,
}

#[derive(Clone, Debug)]
pub struct Traps {
    of_kind: BTreeMap<Kind, Trap>,
    /// Nanoseconds that every system call takes longer while a program is attached to any.
    pub any_call_ns: Spread,
}

/// Calls that `tests/apps/bench/traps.py` times, in this order.
const SEND: usize = 0;
const GETPEERNAME: usize = 1;
const GETPPID: usize = 2;
const NOW: usize = 3;

impl Traps {
    /// By turns with empty programs and without.
    pub fn measure(workspace: &Workspace, hooks: &Hooks, effort: &Effort) -> Result<Self> {
        let venv = stand::venv(workspace)?;
        let builder = stand::quiet(Builder::new(&venv, "bench.traps:app"), "sync");
        let served = Served::start(&builder, "/")?;
        let mut empty = hooks.empty(served.worker)?;
        let timed = || timed(&served, effort.timed_requests);
        let mut windows = vec![timed()?];
        for _ in 0..effort.trap_rounds {
            for calls in Calls::ALL {
                empty.attach(calls)?;
                windows.push(timed()?);
                empty.off()?;
                windows.push(timed()?);
            }
        }
        let _run_times = RunTimes::measured()?;
        let mut runs = Runs::new();
        for calls in Calls::ALL {
            empty.attach(calls)?;
            served.window(effort.timed_requests)?;
            runs.append(&mut empty.off()?);
        }
        Ok(Self::of(&windows, |kind| {
            let [runs, ns] = runs.get(&kind).copied().unwrap_or_default();
            ns as f64 / runs as f64
        }))
    }

    fn of(windows: &[[f64; 4]], empty_run_ns: impl Fn(Kind) -> f64) -> Self {
        let added = |call: usize, on: Calls| {
            let values: Vec<f64> = windows.iter().map(|window| window[call]).collect();
            let each = between_neighbours(&values, 1, |with, without| with - without);
            let turns = each.into_iter().zip(Calls::ALL.into_iter().cycle());
            let turns = turns.filter(|(_, calls)| *calls == on);
            turns.map(|(added, _)| added).collect::<Vec<_>>()
        };
        let any_call = added(GETPPID, Calls::System);
        let both_ends = added(SEND, Calls::System);
        let syscall = both_ends.iter().zip(&any_call);
        let syscall = syscall.map(|(call, any)| (call - any) / 2.0).collect();
        let of_kind = [
            (Kind::Uprobe, added(NOW, Calls::Function)),
            (Kind::Raw, added(SEND, Calls::Sockets)),
            (Kind::Cgroup, added(GETPEERNAME, Calls::Sockets)),
            (Kind::Syscall, syscall),
        ];
        let trap = |(kind, ns): (Kind, Vec<f64>)| {
            let trap = Trap {
                ns: Spread::of(ns),
                empty_run_ns: empty_run_ns(kind),
            };
            (kind, trap)
        };
        Self {
            of_kind: of_kind.into_iter().map(trap).collect(),
            any_call_ns: Spread::of(any_call),
        }
    }

    pub fn of_kind(&self, kind: Kind) -> Result<Trap> {
        let trap = self.of_kind.get(&kind).copied();
        trap.with_context(|| format!("no trap of kind {kind:?}"))
    }

    /// As a table.
    pub fn table(&self) -> String {
        let mut table = "| hook | added by a hit, ns | run time of an empty program, ns |\n\
                         |---|---|---|\n"
            .to_owned();
        for (kind, trap) in &self.of_kind {
            table.push_str(&format!(
                "| {} | {} | {:.0} |\n",
                kind.name(),
                trap.ns.with_error(0),
                trap.empty_run_ns
            ));
        }
        table.push_str(&format!(
            "| any system call, while one is followed | {} | – |\n",
            self.any_call_ns.with_error(0)
        ));
        table
    }
}

/// Nanoseconds of each call inside so many requests.
fn timed(served: &Served, requests: u32) -> Result<[f64; 4]> {
    served.get("/times")?;
    served.window(requests)?;
    let text = served.get("/times")?;
    let column = |call: usize| {
        let word = |line: &str| line.split(' ').nth(call)?.parse().ok();
        midmean(text.lines().filter_map(word))
    };
    Ok([SEND, GETPEERNAME, GETPPID, NOW].map(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_is_what_windows_with_it_take_longer() {
        let bare = [1000.0, 300.0, 100.0, 50.0];
        let function = [1010.0, 300.0, 100.0, 890.0];
        let sockets = [1090.0, 320.0, 100.0, 50.0];
        let calls = [1270.0, 370.0, 170.0, 50.0];
        let windows = [
            bare, function, bare, sockets, bare, calls, bare, function, bare,
        ];
        let traps = Traps::of(&windows, |_| 67.0);
        let of = |kind| traps.of_kind(kind).expect("a trap").ns.median;
        assert_eq!(of(Kind::Uprobe), 840.0);
        assert_eq!(of(Kind::Raw), 90.0);
        assert_eq!(of(Kind::Cgroup), 20.0);
        assert_eq!(of(Kind::Syscall), 100.0);
        assert_eq!(traps.any_call_ns.median, 70.0);
    }
}
