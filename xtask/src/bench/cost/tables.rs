//! What was measured, as the document has it.

use std::fmt::Write as _;

use super::{beside::Beside, observed::Observed, parts::Parts};
use crate::bench::{
    Effort,
    empty::Traps,
    stand::{App, Window},
};

/// The least throughput that is aimed at, in terms of the bare Gunicorn.
fn goal(app: App) -> f64 {
    match app {
        App::Flask | App::Django => 0.99,
        App::Raw => 0.98,
    }
}

pub fn of(
    observed: &[Observed],
    beside: &[Beside],
    parts: &[Parts],
    traps: &Traps,
    effort: &Effort,
) -> String {
    format!(
        "{}\n\n{}\n\n{}",
        of_observed(observed, effort),
        of_peers(observed, beside, effort),
        of_parts(observed, parts, traps)
    )
}

fn of_observed(observed: &[Observed], effort: &Effort) -> String {
    let mut table = format!(
        "**The observer**, {} times by turns with and without it, windows of about {} s. Throughput \
         and latencies are those with the observer in terms of those without it; behind ± is how far \
         the median may be off. *Noise* is the same of windows without the observer only.\n\n\
         | application | class | bare: requests/s | CPU of a request, µs: user + system | \
         CPU added, µs | throughput | noise | p50 | p99 | noise of p99 | aim |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        effort.pairs, effort.window_seconds
    );
    for one in observed {
        let throughput = one.ratio(|window| window.per_second);
        let [user, system] = one.modes_us(false);
        let aim = goal(one.app);
        let reached = if throughput.median - throughput.error() >= aim {
            "reached"
        } else if throughput.median + throughput.error() >= aim {
            "within the error"
        } else {
            "missed"
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| {} | {} | {:.0} | {user:.0} + {system:.0} | {} | {} | {} | {} | {} | {} | ≥ {aim}: {reached} |",
            one.app.name(),
            one.class,
            one.bare(|window| window.per_second).median,
            one.added(cpu).with_error(1),
            one.ratio(|window| window.per_second).with_error(3),
            one.noise(|window| window.per_second).with_error(3),
            one.ratio(|window| window.median_ms).with_error(3),
            one.ratio(|window| window.p99_ms).with_error(2),
            one.noise(|window| window.p99_ms).with_error(2),
        );
    }
    table.push_str(
        "\nThe same, quartiles of single pairs, and where the CPU time goes that is added.\n\n\
         | application | class | throughput | CPU of a request | added: user, system, µs | \
         worker, MiB resident |\n|---|---|---|---|---|---|\n",
    );
    for one in observed {
        let (bare, with) = (one.modes_us(false), one.modes_us(true));
        let _ = writeln!(
            table,
            "| {} | {} | {:.3} | {:.3} | {:.1}, {:.1} | {:.0} |",
            one.app.name(),
            one.class,
            one.ratio(|window| window.per_second),
            one.ratio(cpu),
            with[0] - bare[0],
            with[1] - bare[1],
            one.worker_mib,
        );
    }
    table
}

fn cpu(window: &Window) -> f64 {
    window.cpu_us
}

fn of_peers(observed: &[Observed], beside: &[Beside], effort: &Effort) -> String {
    let mut table = format!(
        "**Other exporters**, each in a Gunicorn of its own beside a bare one, {} starts of \
         {} rounds. The observer's are those of the table above; its own process is not in them, see \
         [The daemon](#the-daemon).\n\n\
         | application | class | with | throughput | CPU added to a request, µs | p50 | p99 | \
         worker, MiB more |\n|---|---|---|---|---|---|---|---|\n",
        effort.restarts, effort.rounds
    );
    for one in observed {
        let (app, class) = (one.app.name(), one.class);
        let is_of_it = |other: &&Beside| other.app == one.app && other.class == one.class;
        let bare = beside.iter().filter(is_of_it).find(|it| it.peer.is_none());
        let bare_mib = bare.map_or(f64::NAN, |bare| bare.worker_mib);
        let _ = writeln!(
            table,
            "| {app} | {class} | **the observer** | {:.3} | {:.1} | {:.3} | {:.2} | 0 |",
            one.ratio(|window| window.per_second),
            one.added(cpu),
            one.ratio(|window| window.median_ms),
            one.ratio(|window| window.p99_ms),
        );
        for other in beside.iter().filter(is_of_it) {
            let Some(peer) = other.peer else { continue };
            let _ = writeln!(
                table,
                "| {app} | {class} | {} | {:.3} | {:.1} | {:.3} | {:.2} | {:.1} |",
                peer.name(),
                other.ratio(|window| window.per_second),
                other.added(cpu),
                other.ratio(|window| window.median_ms),
                other.ratio(|window| window.p99_ms),
                other.worker_mib - bare_mib,
            );
        }
    }
    let behind = behind(observed, beside);
    let shown = if behind.is_empty() {
        "The observer is ahead of every one of them.".to_owned()
    } else {
        format!("The observer is behind {}.", behind.join(", "))
    };
    let _ = writeln!(table, "\nBy throughput: {shown}");
    table
}

/// What has more throughput than a Gunicorn that is observed.
fn behind(observed: &[Observed], beside: &[Beside]) -> Vec<String> {
    let rate = |window: &Window| window.per_second;
    let of_one = |one: &Observed| {
        let own = one.ratio(rate).median;
        let (app, class) = (one.app, one.class);
        let better = beside.iter().filter_map(move |other| {
            let peer = other.peer?;
            let is_better =
                other.app == app && other.class == class && other.ratio(rate).median > own;
            is_better.then(|| format!("{} with {} under {class}", peer.name(), app.name()))
        });
        better.collect::<Vec<_>>()
    };
    observed.iter().flat_map(of_one).collect()
}

fn of_parts(observed: &[Observed], parts: &[Parts], traps: &Traps) -> String {
    let mut table = format!(
        "**The same, added up**: hits of the worker (a program on `sys_enter` counts its system \
         calls, the kernel the runs of programs), by what an empty program takes at a hit (the trap) and what the \
         observer's runs on top (`kernel.bpf_stats_enabled`). A hit of a function takes {} ns, of a \
         raw tracepoint {} ns, at the beginning or end of a system call {} ns, and each system call, \
         followed or not, {} ns. See `cargo xtask bench floor`.\n\n\
         | application | class | system calls | hits | traps alone, µs | with programs, µs | \
         of the CPU of a request | measured above, µs |\n|---|---|---|---|---|---|---|---|\n",
        quartiles(traps.function),
        quartiles(traps.raw),
        quartiles(traps.call),
        quartiles(traps.any_call)
    );
    for (one, parts) in observed.iter().zip(parts) {
        let bare_us = one.bare(cpu).median;
        let _ = writeln!(
            table,
            "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} % | {} |",
            one.app.name(),
            one.class,
            parts.calls,
            parts.all_hits(),
            parts.floor_us(),
            parts.sum_us(),
            parts.sum_us() / bare_us * 100.0,
            one.added(cpu).with_error(1),
        );
    }
    table
}

/// As [`crate::bench::spread::Spread`] shows them.
pub fn quartiles([low, median, high]: [f64; 3]) -> String {
    format!("{median:.0} ({low:.0}–{high:.0})")
}
