//! The same cost added up: what a request hits, by what each hit takes.

use std::path::Path;

use anyhow::Result;
use end_to_end::{kernel::RunTimes, metrics::Metrics, observer::Observer};

use super::{Bare, observed};
use crate::bench::{
    Effort,
    calls::Calls,
    empty::{Empty, Traps},
    stand::Served,
};

/// What one request of an application under a worker class hits.
pub struct Parts {
    /// System calls of the worker.
    pub calls: f64,
    hits: Vec<Hits>,
    traps: Traps,
}

/// Of one program.
struct Hits {
    program: String,
    kind: Kind,
    /// In a request, by the worker.
    hits: f64,
    /// That the program ran at each.
    run_ns: f64,
}

/// What comes less often in a request is not made by it, but by something else on the host.
const RARE: f64 = 0.1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Function,
    Raw,
    Call,
}

impl Kind {
    /// Of a program, by its name.
    fn of(program: &str) -> Self {
        let is_call = ["enter_", "exit_"]
            .iter()
            .any(|begin| program.starts_with(begin));
        if is_call {
            Self::Call
        } else if ["datetime_now", "exception_", "deep_capture", "gc_"]
            .iter()
            .any(|begin| program.starts_with(begin))
        {
            Self::Function
        } else {
            Self::Raw
        }
    }

    fn trap_ns(self, traps: &Traps) -> f64 {
        let quartiles = match self {
            Self::Function => traps.function,
            Self::Raw => traps.raw,
            Self::Call => traps.call,
        };
        quartiles[1]
    }
}

pub fn measure(
    bare: &[Bare],
    binary: &Path,
    (empty, traps): (&Empty, &Traps),
    effort: &Effort,
) -> Result<Vec<Parts>> {
    let mut made = Vec::new();
    for bare in bare {
        let requests = effort.counted_requests;
        made.push(Calls::of_a_request(&bare.served, empty, requests)?);
    }
    let masters: Vec<u32> = bare.iter().map(|bare| bare.served.master).collect();
    let _run_times = RunTimes::measured()?;
    let observer = observed::start(binary, &masters)?;
    let mut all = Vec::new();
    for (bare, made) in bare.iter().zip(made) {
        all.push(Parts {
            calls: made.all,
            hits: hits(&observer, &bare.served, &made, effort.counted_requests)?,
            traps: *traps,
        });
    }
    observer.stop()?;
    Ok(all)
}

/// What the kernel measured of each program, while so many requests were served.
fn hits(observer: &Observer, served: &Served, made: &Calls, requests: u32) -> Result<Vec<Hits>> {
    let before = observer.scrape()?;
    served.window(requests)?;
    let after = observer.scrape()?;
    let grown = |family: &str, program: &str| {
        let sum = |metrics: &Metrics| metrics.sum(family, &[("program", program)]);
        sum(&after) - sum(&before)
    };
    let runs = "gunicorn_observer_program_runs_total";
    let names = after.all(runs, &[]).map(|sample| sample.label("program"));
    let all = names.filter_map(|program| {
        let runs = grown(runs, program);
        let seconds = grown("gunicorn_observer_program_run_seconds_total", program);
        let kind = Kind::of(program);
        let hits = match kind {
            // The client makes such calls too: what counts is what the worker made.
            Kind::Call => made.of(call_of(program)),
            Kind::Function | Kind::Raw => runs / f64::from(requests),
        };
        (runs > 0.0 && hits > RARE).then(|| Hits {
            program: program.to_owned(),
            kind,
            hits,
            run_ns: seconds * 1e9 / runs,
        })
    });
    Ok(all.collect())
}

/// The system call that a program is on.
fn call_of(program: &str) -> &str {
    program.split_once('_').map_or(program, |(_, call)| call)
}

impl Parts {
    /// Microseconds that a request takes longer where programs that do nothing are attached.
    pub fn floor_us(&self) -> f64 {
        let traps: f64 = self
            .hits
            .iter()
            .map(|hits| hits.hits * hits.kind.trap_ns(&self.traps))
            .sum();
        (traps + self.calls * self.traps.any_call[1]) / 1e3
    }

    /// … and with those of the observer.
    pub fn sum_us(&self) -> f64 {
        let run: f64 = self.hits.iter().map(|hits| hits.hits * hits.run_ns).sum();
        self.floor_us() + run / 1e3
    }

    /// By program: hits, and nanoseconds of each, of the trap and of the program.
    pub fn by_program(&self) -> impl Iterator<Item = (&str, f64, f64, f64)> {
        self.hits.iter().map(|hits| {
            let trap_ns = hits.kind.trap_ns(&self.traps);
            (hits.program.as_str(), hits.hits, trap_ns, hits.run_ns)
        })
    }

    /// Hits of all programs.
    pub fn all_hits(&self) -> f64 {
        self.hits.iter().map(|hits| hits.hits).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, call_of};

    #[test]
    fn a_programs_name_says_what_it_is_on() {
        assert!(Kind::of("enter_recvfrom") == Kind::Call);
        assert!(Kind::of("datetime_now") == Kind::Function);
        assert!(Kind::of("socket_established") == Kind::Raw);
        assert_eq!(call_of("exit_accept4"), "accept4");
    }
}
