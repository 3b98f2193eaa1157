//! Invariants of views and expositions, after any sequence of events.

use super::exported::exported;
use super::family::Read;
use observer_model::event::{Event, Exception, Pid, Request};
use observer_model::fact::{DeepCaptureState, Fact, Level};
use observer_model::settings::WorkerLabel;
use observer_model::testing::scenarios::{
    Scenario, app_requests, captured_frame, exception, raising, request,
};
use observer_model::views::metrics_view::{ClassView, ErrorView, MetricsView, SlotView};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A kind of event, and two of so few processes that events meet.
fn step() -> impl Strategy<Value = (u8, Pid, Pid)> {
    (0..23_u8, 1..6_u32, 1..6_u32)
}

fn happens(scenario: &mut Scenario, (what, a, b): (u8, Pid, Pid)) {
    let now_ns = scenario.now_ns;
    match what {
        0 | 1 => scenario.fork(a, b),
        2 | 3 => scenario.get(a),
        4 => scenario.exit(a),
        5 => scenario.exec(a),
        6 => scenario.master(a),
        7 => scenario.worker(a, b, u64::from(a)),
        8 => scenario.fact(Fact::NotGunicorn { pid: a }),
        9 => scenario.named_master(a, "till"),
        10 => scenario.master_since(a, "shop", now_ns),
        11 => scenario.level(a, if b < 3 { Level::None } else { Level::Full }),
        12 => scenario.fork(a, b).get(b),
        13 => scenario.later(u64::from(a) * 70),
        14 => scenario.raise(a, class(b)),
        15 => scenario.fail(a, 500),
        16 | 17 => raises(scenario, a, b),
        18 => scenario.deep_capture(a, capture_state(b)),
        19 => scenario.event(Event::DeepCaptureExhausted { time_ns: now_ns }),
        // A deep capture may be active: this failure has no exception.
        20 => scenario.later(1).fail(a, 503),
        21 => scenario.event(Event::Gc {
            time_ns: now_ns,
            pid: a,
            pause_ns: u64::from(b) * 1_000,
        }),
        // The request never finishes.
        _ => scenario.event(Event::Exception(Box::new(exception(
            &request(a, now_ns + 1),
            b.into(),
            class(b),
        )))),
    };
}

/// A class of exceptions.
fn class(number: u32) -> &'static str {
    ["A", "B", "C"].get(number as usize % 3).unwrap()
}

fn capture_state(number: u32) -> DeepCaptureState {
    match number {
        1 | 2 => DeepCaptureState::Capturing,
        3 => DeepCaptureState::Resting,
        4 => DeepCaptureState::Failed,
        _ => DeepCaptureState::Over,
    }
}

/// A request fails. Its exception passes some frames, and is handled or not.
fn raises(scenario: &mut Scenario, pid: Pid, number: u32) -> &mut Scenario {
    let failed = Request {
        status: Some(500),
        error_handled: number == 1,
        was_cut: number == 2,
        ..raising(request(pid, scenario.now_ns))
    };
    for depth in (0..number).rev() {
        let step = captured_frame(&failed, 1, class(number), depth);
        scenario.event(Event::CapturedFrame(Box::new(step)));
    }
    if number < 4 {
        let handled = Exception {
            was_gunicorns: number == 1,
            ..exception(&failed, 1, class(number))
        };
        scenario.event(Event::Exception(Box::new(handled)));
    }
    scenario.event(Event::Request(Box::new(failed)))
}

/// The 5xx of each app: as counted by error, and as counted by duration.
fn failed(view: &MetricsView) -> BTreeMap<String, (u64, u64)> {
    let mut failed: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for app in &view.apps {
        let (by_error, by_status) = failed.entry(app.app.clone()).or_default();
        *by_error += app.http_errors.iter().map(|e| e.count).sum::<u64>();
        let series = app.http.iter().filter(|s| matches!(s.status, Some(500..)));
        *by_status += series.map(|s| s.duration.count()).sum::<u64>();
    }
    failed
}

/// The numbers of each series that masters of one app share, and the app.
fn shared(view: &MetricsView) -> BTreeMap<String, (String, Vec<f64>)> {
    let mut shared = BTreeMap::new();
    for of in exported(view, WorkerLabel::Pid) {
        if !matches!(of.family.read, Read::App(_)) {
            continue;
        }
        for series in of.series {
            let key = format!("{} {:?}", of.family.name, series.labels);
            let app = series.label("app").unwrap().to_owned();
            shared.insert(key, (app, series.numbers));
        }
    }
    shared
}

proptest! {
    #[test]
    fn no_shared_counter_ever_falls(
        steps in proptest::collection::vec(step(), 0..120)
    ) {
        let mut scenario = Scenario::new();
        let mut before: BTreeMap<String, (String, Vec<f64>)> = BTreeMap::new();
        for step in steps {
            happens(&mut scenario, step);
            let view = scenario.metrics_view();
            let now = shared(&view);
            for (series, (app, counts)) in &before {
                let Some((_, now)) = now.get(series) else {
                    let has_heir = view.apps.iter().any(|a| a.observed && a.app == *app);
                    prop_assert!(!has_heir, "{} is gone after {:?}", series, step);
                    continue;
                };
                let fell = counts.iter().zip(now).any(|(before, now)| now < before);
                prop_assert!(!fell, "{}: {:?} after {:?}", series, now, step);
            }
            before = now;
        }
    }

    #[test]
    fn every_5xx_is_one_error_of_its_app(
        steps in proptest::collection::vec(step(), 0..100)
    ) {
        let mut scenario = Scenario::new();
        for step in steps {
            happens(&mut scenario, step);
            for (app, (by_error, by_status)) in failed(&scenario.metrics_view()) {
                // All of these requests have a duration. A request without is in no histogram.
                prop_assert_eq!(by_error, by_status, "{} after {:?}", app, step);
            }
        }
    }

    #[test]
    fn every_request_is_counted_somewhere_while_no_master_is_forgotten(
        steps in proptest::collection::vec(step(), 0..80)
    ) {
        let mut scenario = Scenario::new();
        let forgets = |what| matches!(what, 10 | 13);
        for step in steps.into_iter().filter(|&(what, ..)| !forgets(what)) {
            happens(&mut scenario, step);
        }
        let pending: u64 = scenario.unclaimed_requests();
        let view = scenario.metrics_view();
        let claimed: u64 = view.apps.iter().map(app_requests).sum();
        let seen = view.observer.events["request"];
        prop_assert_eq!(claimed + pending + scenario.lost("unclaimed"), seen);
    }

    #[test]
    fn a_snapshot_is_always_consistent(
        steps in proptest::collection::vec(step(), 0..80)
    ) {
        let mut scenario = Scenario::new();
        for step in steps {
            happens(&mut scenario, step);
            let view = scenario.metrics_view();
            let mut live = Vec::new();
            for app in &view.apps {
                let of_app = app.workers.iter().filter(|worker| !worker.ended);
                live.extend(of_app.clone().map(|worker| worker.pid));
                prop_assert_eq!(of_app.count(), app.workers_live as usize);
                let by_slot: u64 = app.slots.iter().map(|slot| slot.counters.requests).sum();
                prop_assert_eq!(by_slot, app_requests(app));
                let shown: u64 = app.workers.iter().map(|worker| worker.counters.requests).sum();
                prop_assert!(shown <= by_slot);
                let errors = |of: &[ErrorView]| of.iter().map(|e| e.count).sum::<u64>();
                let by_slot = |of: fn(&SlotView) -> &[ErrorView]| {
                    app.slots.iter().map(|slot| errors(of(slot))).sum::<u64>()
                };
                let by_class = |of: fn(&ClassView) -> &[ErrorView]| {
                    app.classes.iter().map(|class| errors(of(class))).sum::<u64>()
                };
                prop_assert_eq!(by_slot(|slot| &slot.failed), by_class(|class| &class.failed));
                prop_assert_eq!(by_slot(|slot| &slot.handled), by_class(|class| &class.handled));
            }
            let count = live.len();
            live.sort_unstable();
            live.dedup();
            prop_assert_eq!(live.len(), count, "a process is one worker");
        }
        // Long after all processes exited, nothing is left.
        for pid in 1..6 {
            scenario.exit(pid);
        }
        scenario.later(1000);
        prop_assert!(scenario.metrics_view().apps.is_empty());
    }
}
