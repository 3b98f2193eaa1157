//! Expositions are the same, byte for byte, as recorded ones.

use super::full;
use crate::metrics::exposition::{Format, encode};
use observer_model::fact::Pod;
use observer_model::settings::WorkerLabel;
use observer_model::views::metrics_view::{AppView, MetricsView};

/// Every family, several masters, equal labels, and names that need escaping.
fn view() -> MetricsView {
    let mut view = full().metrics_view(100 * super::S);
    let first = view.apps[0].clone();
    let master = |pid: u32, change: fn(&mut AppView)| {
        let mut app = first.clone();
        app.master_pid = pid;
        for (number, worker) in (1..).zip(&mut app.workers) {
            worker.pid = pid + number;
            worker.id = format!("worker_{number}_{pid}");
        }
        change(&mut app);
        app
    };
    view.apps = vec![
        // Series of the app are one with those of the first master.
        master(9, |_| {}),
        first.clone(),
        master(100, |app| {
            app.pod = Pod {
                namespace: "prod".to_owned(),
                name: "shop-0".to_owned(),
                container: "web".to_owned(),
                node: "node-1".to_owned(),
                workload_kind: "Deployment".to_owned(),
                workload: "shop".to_owned(),
            };
        }),
        master(200, |app| app.observed = false),
        // A space sorts before the quote that ends `shop`.
        master(300, |app| {
            app.ended = true;
            app.app = "shop ".to_owned();
        }),
        master(400, |app| {
            app.app = "a \"quoted\\name\"\n\u{85}".to_owned();
            app.bind = vec!["é".repeat(200), "x".repeat(200)];
            for error in &mut app.http_errors {
                error.raised_in = "shop!.py:view".to_owned();
            }
            // Fields of two series that come in another order than their labels.
            let mut error = app.http_errors[0].clone();
            error.raised_in = "shop.py:view".to_owned();
            app.http_errors.insert(0, error);
        }),
    ];
    let finding = view.findings[0].clone();
    for master_pid in [100, 7] {
        let mut other = finding.clone();
        other.master_pid = master_pid;
        other.worker_pid = None;
        view.findings.push(other);
    }
    let observer = &mut view.observer;
    let numbers = [0, 1 << 53, (1 << 53) + 2, u64::MAX, 12_345_678_901_234_567];
    for (number, count) in (0..).zip(numbers) {
        observer.lost.insert(format!("number_{number}"), count);
    }
    view
}

/// A family that was added since needs no recording.
#[test]
fn the_exposition_is_as_recorded() {
    let all = view();
    let mut few = all.clone();
    few.apps.drain(3..);
    for (recorded, view, label, format) in [
        (
            include_str!("fixtures/by_pid.txt"),
            &all,
            WorkerLabel::Pid,
            Format::Text,
        ),
        (
            include_str!("fixtures/by_pid_openmetrics.txt"),
            &few,
            WorkerLabel::Pid,
            Format::OpenMetrics,
        ),
        (
            include_str!("fixtures/by_slot.txt"),
            &few,
            WorkerLabel::Slot,
            Format::Text,
        ),
        (
            include_str!("fixtures/by_class.txt"),
            &few,
            WorkerLabel::None,
            Format::Text,
        ),
    ] {
        let written = encode(view, label, format);
        let recorded = families(recorded);
        let known: Vec<_> = families(&written)
            .into_iter()
            .filter(|(name, _)| recorded.iter().any(|(known, _)| known == name))
            .collect();
        for (written, recorded) in known.iter().zip(&recorded) {
            assert_eq!(written, recorded, "{label:?} {format:?}");
        }
        assert_eq!(known.len(), recorded.len(), "{label:?} {format:?}");
    }
}

/// The families of an exposition, in order: name and all lines. A family is described by two lines.
fn families(exposition: &str) -> Vec<(&str, Vec<&str>)> {
    let mut families: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in exposition.split_inclusive('\n') {
        let name = match line.starts_with('#') {
            true => line.split(' ').nth(2).unwrap_or("EOF"),
            false => families.last().expect("a description").0,
        };
        match families.last_mut() {
            Some((last, lines)) if *last == name => lines.push(line),
            _ => families.push((name, vec![line])),
        }
    }
    families
}
