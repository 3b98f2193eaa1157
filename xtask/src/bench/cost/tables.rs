//! The results as the document has them.

use std::fmt::Write as _;

use super::{Cost, beside::Beside, observed::Observed};
use crate::bench::{
    Effort,
    spread::verdict,
    stand::{App, Window},
    traps::Traps,
};

/// The least throughput of a Flask hello, in terms of the bare Gunicorn.
const THROUGHPUT: f64 = 0.97;

/// The most microseconds that a request of a Flask hello may cost, added up.
fn aim_us(app: App, class: &str) -> Option<f64> {
    (app == App::Flask).then_some(match class {
        "sync" => 4.0,
        "gthread" => 3.7,
        _ => 3.6,
    })
}

pub fn of(
    full: &Cost,
    entry_exit: &Cost,
    beside: &[Beside],
    traps: &Traps,
    effort: &Effort,
) -> String {
    let costs = [full, entry_exit];
    [
        of_parts(&costs),
        of_loops(&costs),
        of_programs(&costs),
        format!("**Traps** inside a request.\n\n{}", traps.table()),
        of_observed(&full.observed, effort),
        of_peers(&full.observed, beside, effort),
    ]
    .join("\n")
}

/// The cost of the observer to a request.
fn of_parts(costs: &[&Cost]) -> String {
    let mut table = "**The observer**: the sum is made of what a request hits, times the trap and the run \
                     of the program; *by turns* is the CPU time of the worker with the observer, less \
                     that without it.\n\n\
                     | probes | application | class | hits | traps, µs | sum, µs | of the CPU of a \
                     request | aim, µs | by turns, µs | its clients pay, µs | system calls |\n\
                     |---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for cost in costs {
        for (parts, one) in cost.parts.iter().zip(&cost.observed) {
            let (sum, error) = (parts.sum_us(), parts.error_us());
            let aim = aim_us(one.app, one.class).map_or_else(
                || "–".to_owned(),
                |aim| format!("≤ {aim}: {}", verdict(aim - sum, error)),
            );
            // Writing to a string cannot fail.
            let _ = writeln!(
                table,
                "| {} | {} | {} | {:.1} | {:.2} | {sum:.2} ± {error:.2} | {:.1} % | {aim} | {} | {:.2} \
                 | {:.1} |",
                cost.probes.name(),
                one.app.name(),
                one.class,
                parts.own_hits(),
                parts.traps_us(),
                sum / one.bare(cpu).median * 100.0,
                one.added(cpu).with_error(1),
                parts.clients_us(),
                parts.calls,
            );
        }
    }
    table
}

/// The cost to processes that are not observed.
fn of_loops(costs: &[&Cost]) -> String {
    let mut table =
        "**Other processes**, added up in the same way; `cargo xtask bench bystander` measures \
                     them by turns.\n\n| probes |"
            .to_owned();
    for (name, _) in costs.iter().take(1).flat_map(|cost| &cost.loops_ns) {
        let _ = write!(table, " {name}, ns |");
    }
    table.push_str("\n|---|---|---|---|---|---|\n");
    for cost in costs {
        let _ = write!(table, "| {} |", cost.probes.name());
        for (_, ns) in &cost.loops_ns {
            let _ = write!(table, " {ns:.0} |");
        }
        table.push('\n');
    }
    table
}

/// The programs that a request hits.
fn of_programs(costs: &[&Cost]) -> String {
    let mut table = "**By program**, a request of Flask hello.\n\n\
                     | probes | class | program | hits of the worker | of its clients | trap, ns | \
                     run, ns |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    for cost in costs {
        let flask = cost.parts.iter().zip(&cost.observed);
        for (parts, one) in flask.filter(|(_, one)| one.app == App::Flask) {
            for hits in &parts.hits {
                let run_ns = match hits.own {
                    0.0 => "–".to_owned(),
                    _ => hits.run_ns.with_error(0),
                };
                let _ = writeln!(
                    table,
                    "| {} | {} | `{}` | {:.2} | {:.2} | {:.0} | {run_ns} |",
                    cost.probes.name(),
                    one.class,
                    hits.program,
                    hits.own,
                    hits.clients,
                    hits.trap_ns.median,
                );
            }
        }
    }
    table
}

fn of_observed(observed: &[Observed], effort: &Effort) -> String {
    let mut table = format!(
        "**By turns**, {} times with and without it, windows of about {} s. Throughput \
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
        let reached = verdict(throughput.median - THROUGHPUT, throughput.error());
        let aim = match one.app {
            App::Flask => format!("≥ {THROUGHPUT}: {reached}"),
            App::Raw | App::Django => "–".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| {} | {} | {:.0} | {user:.0} + {system:.0} | {} | {} | {} | {} | {} | {} | {aim} |",
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
    table
}

fn cpu(window: &Window) -> f64 {
    window.cpu_us
}

fn of_peers(observed: &[Observed], beside: &[Beside], effort: &Effort) -> String {
    let mut table = format!(
        "**Other monitoring**, each in a Gunicorn of its own beside a bare one, {} starts of \
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
