//! The observer comes and goes beside the same Gunicorns, many times: two starts of one Gunicorn
//! differ by more than what it costs.

use std::{fmt::Write as _, path::Path};

use anyhow::Result;

use super::Bare;
use crate::bench::{
    Effort,
    spread::{Spread, between_neighbours},
    stand::{App, Probes, Window},
};

/// One application under one worker class.
pub struct Observed {
    pub probes: Probes,
    pub app: App,
    pub class: &'static str,
    /// By turns without the observer and with it; without it first and last.
    pub windows: Vec<Window>,
}

pub fn measure(
    bare: &[Bare],
    binary: &Path,
    probes: Probes,
    effort: &Effort,
) -> Result<Vec<Observed>> {
    let masters: Vec<u32> = bare.iter().map(|bare| bare.served.master).collect();
    let mut windows = vec![Vec::new(); bare.len()];
    for turn in 0..=2 * effort.pairs {
        let observer = (turn % 2 == 1)
            .then(|| probes.start(binary, &masters))
            .transpose()?;
        // Each is the first as often as others are.
        for number in 0..bare.len() {
            let number = (number + turn / 2) % bare.len();
            let window = bare[number].served.window(bare[number].requests)?;
            windows[number].push(window);
        }
        if let Some(observer) = observer {
            observer.stop()?;
        }
        if turn % 20 == 0 {
            println!(
                "  turn {turn} of {}, probes: {}",
                2 * effort.pairs,
                probes.name()
            );
        }
    }
    let each = bare.iter().zip(windows).map(|(bare, windows)| Observed {
        probes,
        app: bare.app,
        class: bare.class,
        windows,
    });
    Ok(each.collect())
}

impl Observed {
    fn values(&self, of: impl Fn(&Window) -> f64) -> Vec<f64> {
        self.windows.iter().map(of).collect()
    }

    /// What was measured without the observer.
    pub fn bare(&self, of: impl Fn(&Window) -> f64) -> Spread {
        Spread::of(self.values(of).into_iter().step_by(2))
    }

    /// Each window with the observer in terms of those without it before and after.
    pub fn ratio(&self, of: impl Fn(&Window) -> f64) -> Spread {
        Spread::of(between_neighbours(&self.values(of), 1, |with, without| {
            with / without
        }))
    }

    /// How much more it is.
    pub fn added(&self, of: impl Fn(&Window) -> f64) -> Spread {
        Spread::of(between_neighbours(&self.values(of), 1, |with, without| {
            with - without
        }))
    }

    /// The same of windows without the observer only: what it would be if the observer did nothing.
    pub fn noise(&self, of: impl Fn(&Window) -> f64) -> Spread {
        let bare: Vec<f64> = self.values(of).into_iter().step_by(2).collect();
        let each = |first| between_neighbours(&bare, first, |value, others| value / others);
        Spread::of(each(1).into_iter().chain(each(2)))
    }

    /// Microseconds of a request in user mode and in the kernel, without the observer or with it.
    pub fn modes_us(&self, is_observed: bool) -> [f64; 2] {
        let of_kind = || {
            self.windows
                .iter()
                .skip(usize::from(is_observed))
                .step_by(2)
        };
        let requests: u32 = of_kind().map(|window| window.requests).sum();
        let user: f64 = of_kind().map(|window| window.user_s).sum();
        let system: f64 = of_kind().map(|window| window.system_s).sum();
        [user, system].map(|seconds| seconds * 1e6 / f64::from(requests))
    }
}

/// Every window.
pub fn csv<'a>(all: impl Iterator<Item = &'a Observed>) -> String {
    let mut csv =
        "probes,application,class,turn,observed,requests,requests_per_second,median_ms,p99_ms,\
                   worker_cpu_us_per_request\n"
            .to_owned();
    for observed in all {
        let probes = observed.probes.name();
        let (app, class) = (observed.app.name(), observed.class);
        for (turn, window) in observed.windows.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(
                csv,
                "{probes},{app},{class},{turn},{},{},{:.1},{:.3},{:.3},{:.2}",
                turn % 2,
                window.requests,
                window.per_second,
                window.median_ms,
                window.p99_ms,
                window.cpu_us
            );
        }
    }
    csv
}
