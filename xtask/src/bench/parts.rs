//! A cost added up: hits of each program, times the kernel's trap and the run of the program.
//!
//! The kernel measures the runs of a program by all processes together (`kernel.bpf_stats_enabled`).
//! Other programs count the hits of the process in question, and loops in this process show how long
//! a run takes for a process that is not observed. The rest of the run time is the process's own.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use end_to_end::{kernel::RunTimes, metrics::Metrics, observer::Observer};

use super::{
    hooks::{Hooks, Kind},
    loops::Loop,
    spread::Spread,
    traps::{Trap, Traps},
};

/// A program that runs less often in a request is not hit by it, but by something else on the host.
const RARE: f64 = 0.05;
/// How often run times are measured.
const ROUNDS: usize = 5;

const RUNS: &str = "gunicorn_observer_program_runs_total";
const SECONDS: &str = "gunicorn_observer_program_run_seconds_total";
const ATTACHMENTS: &str = "gunicorn_observer_program_attachments";

/// Measures processes beside one observer.
pub struct Meter<'a> {
    observer: &'a Observer,
    hooks: &'a Hooks,
    traps: &'a Traps,
    kinds: BTreeMap<String, Kind>,
    /// Nanoseconds of a run for a process that is not observed.
    unobserved_run_ns: BTreeMap<String, f64>,
    /// Nanoseconds added to a round of each loop.
    pub loops_ns: Vec<(&'static str, f64)>,
    _run_times: RunTimes,
}

/// Runs of a program and their nanoseconds, without those of the measurement.
#[derive(Clone, Copy, Default)]
struct Ran {
    runs: f64,
    ns: f64,
}

type AllRan = BTreeMap<String, Ran>;

impl<'a> Meter<'a> {
    /// Begins with the loops.
    pub fn start(observer: &'a Observer, hooks: &'a Hooks, traps: &'a Traps) -> Result<Self> {
        let mut meter = Self {
            observer,
            hooks,
            traps,
            kinds: hooks.kinds()?,
            unobserved_run_ns: BTreeMap::new(),
            loops_ns: Vec::new(),
            _run_times: RunTimes::measured()?,
        };
        let slow_call_ns = meter.slow_call_ns()?;
        let mut all = AllRan::new();
        for mut one in Loop::all()? {
            let ran = meter.ran(|| one.run().map(drop))?;
            let mut added_ns = f64::from(one.calls) * slow_call_ns;
            for (program, ran) in ran {
                let trap_ns = meter.trap(&program)?.ns.median;
                added_ns += (ran.runs * trap_ns + ran.ns) / f64::from(one.rounds);
                let sum = all.entry(program).or_default();
                sum.runs += ran.runs;
                sum.ns += ran.ns;
            }
            meter.loops_ns.push((one.name, added_ns));
        }
        let run_ns = |(program, ran): (String, Ran)| (program, ran.ns / ran.runs);
        meter.unobserved_run_ns = all.into_iter().map(run_ns).collect();
        Ok(meter)
    }

    fn kind(&self, program: &str) -> Result<Kind> {
        let kind = self.kinds.get(program).copied();
        kind.with_context(|| format!("the table of features has no {program}"))
    }

    fn trap(&self, program: &str) -> Result<Trap> {
        self.traps.of_kind(self.kind(program)?)
    }

    /// Nanoseconds added to every system call: none unless a program is attached to one.
    fn slow_call_ns(&self) -> Result<f64> {
        let metrics = self.observer.scrape()?;
        let attached = metrics.all(ATTACHMENTS, &[]).filter(|it| it.value > 0.0);
        let is_call = |program: &str| self.kinds.get(program) == Some(&Kind::Syscall);
        let mut programs = attached.map(|sample| sample.label("program"));
        Ok(if programs.any(is_call) {
            self.traps.any_call_ns.median
        } else {
            0.0
        })
    }

    /// Runs of every program, by anybody, during some work.
    fn ran(&self, work: impl FnOnce() -> Result<()>) -> Result<AllRan> {
        let before = self.observer.scrape()?;
        work()?;
        let after = self.observer.scrape()?;
        let mut all = AllRan::new();
        for sample in after.all(RUNS, &[]) {
            let program = sample.label("program");
            let grown = |family: &str| {
                let sum = |metrics: &Metrics| metrics.sum(family, &[("program", program)]);
                sum(&after) - sum(&before)
            };
            let runs = grown(RUNS);
            if runs > 0.0 {
                let ns = grown(SECONDS) * 1e9 - runs * self.trap(program)?.empty_run_ns;
                all.insert(program.to_owned(), Ran { runs, ns });
            }
        }
        Ok(all)
    }

    /// What a process pays for each of so many requests, and what its clients pay.
    pub fn requests(
        &self,
        pid: u32,
        requests: u32,
        mut send: impl FnMut() -> Result<()>,
    ) -> Result<Parts> {
        let requests = f64::from(requests);
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(self.ran(&mut send)?);
        }
        let mean_runs = |program: &str| {
            let runs = rounds.iter().filter_map(|ran| Some(ran.get(program)?.runs));
            runs.sum::<f64>() / requests / rounds.len() as f64
        };
        let programs = rounds.iter().flat_map(BTreeMap::keys).map(String::as_str);
        let programs: BTreeSet<&str> = programs.filter(|it| mean_runs(it) > RARE).collect();
        let names: Vec<&str> = programs.iter().map(|program| first(program)).collect();
        let mut counting = self.hooks.count(pid, &names)?;
        let before = counting.hits()?;
        send()?;
        let after = counting.hits()?;
        let calls = (after.calls - before.calls) as f64 / requests;
        let mut hits = Vec::new();
        for program in programs {
            let runs = mean_runs(program);
            let counted = after.programs.get(first(program)).map(|&after| {
                let before = before.programs.get(first(program)).copied();
                (after - before.unwrap_or_default()) as f64 / requests
            });
            // A hook that cannot be counted by process is one that clients do not hit.
            let own = counted.unwrap_or(runs).min(runs);
            let own = if own > RARE { own } else { 0.0 };
            let clients = runs - own;
            let unobserved = self.unobserved_run_ns.get(program).copied();
            let each = rounds.iter().filter_map(|ran| {
                let Ran { runs, ns } = *ran.get(program)?;
                let mean_ns = ns / runs;
                let client_run_ns = unobserved.unwrap_or(mean_ns);
                let own_ns = mean_ns * (own + clients) - clients * client_run_ns;
                Some([own_ns / own, client_run_ns])
            });
            let each: Vec<[f64; 2]> = each.collect();
            hits.push(Hits {
                program: program.to_owned(),
                own,
                clients,
                trap_ns: self.trap(program)?.ns,
                run_ns: Spread::of(each.iter().map(|[own, _]| *own)),
                client_run_ns: Spread::of(each.iter().map(|[_, client]| *client)).median,
            });
        }
        Ok(Parts {
            calls,
            slow_call_ns: self.slow_call_ns()?,
            hits,
        })
    }
}

/// The program that a backup stands in for: they share a hook.
fn first(program: &str) -> &str {
    program.strip_suffix("_backup").unwrap_or(program)
}

/// The cost of a request.
#[derive(Clone, Debug)]
pub struct Parts {
    /// System calls of the process.
    pub calls: f64,
    slow_call_ns: f64,
    pub hits: Vec<Hits>,
}

/// Hits of one program in a request.
#[derive(Clone, Debug)]
pub struct Hits {
    pub program: String,
    /// By the process itself.
    pub own: f64,
    /// By its clients.
    pub clients: f64,
    pub trap_ns: Spread,
    /// A run for the process.
    pub run_ns: Spread,
    client_run_ns: f64,
}

impl Parts {
    fn sum(&self, of: impl Fn(&Hits) -> f64) -> f64 {
        // Without a hit there is no run time.
        self.hits.iter().map(of).filter(|it| it.is_finite()).sum()
    }

    /// Hits of all programs by the process.
    pub fn own_hits(&self) -> f64 {
        self.sum(|hits| hits.own)
    }

    /// Microseconds that the kernel takes for hits and slower system calls.
    pub fn traps_us(&self) -> f64 {
        let hits = self.sum(|hits| hits.own * hits.trap_ns.median);
        (hits + self.calls * self.slow_call_ns) / 1e3
    }

    /// The same and the runs of the programs.
    pub fn sum_us(&self) -> f64 {
        self.traps_us() + self.sum(|hits| hits.own * hits.run_ns.median) / 1e3
    }

    /// How far the sum may be off. Programs of one kind share the error of their trap, so errors of
    /// traps are added up.
    pub fn error_us(&self) -> f64 {
        let traps = self.sum(|hits| hits.own * hits.trap_ns.error());
        let runs = self.sum(|hits| (hits.own * hits.run_ns.error()).powi(2));
        traps.hypot(runs.sqrt()) / 1e3
    }

    /// Microseconds that clients pay.
    pub fn clients_us(&self) -> f64 {
        self.sum(|hits| hits.clients * (hits.trap_ns.median + hits.client_run_ns)) / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_not_in_the_sum_of_a_process() {
        let ns = |ns: f64| Spread::of([ns]);
        let hits = |program: &str, own, clients, trap_ns, run_ns| Hits {
            program: program.to_owned(),
            own,
            clients,
            trap_ns: ns(trap_ns),
            run_ns: ns(run_ns),
            client_run_ns: 10.0,
        };
        let parts = Parts {
            calls: 10.0,
            slow_call_ns: 70.0,
            hits: vec![
                hits("on_function", 2.0, 0.0, 846.0, 400.0),
                hits("on_socket", 2.0, 3.0, 98.0, 152.0),
                hits("of_clients_only", 0.0, 1.0, 98.0, f64::NAN),
            ],
        };
        assert_eq!(format!("{:.3}", parts.traps_us()), "2.588");
        assert_eq!(format!("{:.3}", parts.sum_us()), "3.692");
        assert_eq!(format!("{:.3}", parts.clients_us()), "0.432");
        assert_eq!(parts.own_hits(), 4.0);
    }

    #[test]
    fn a_backup_is_counted_at_the_hook_of_its_first() {
        assert_eq!(first("exit_accept4_backup"), "exit_accept4");
        assert_eq!(first("datetime_now"), "datetime_now");
    }
}
