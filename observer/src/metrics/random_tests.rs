//! What holds whatever happens.

use crate::metrics::exposition;
use observer_model::event::{Event, Exception, Pid, Request};
use observer_model::fact::{DeepCaptureState, Fact, Level};
use observer_model::settings::WorkerLabel;
use observer_model::testing::scenarios::{
    Scenario, app_requests, captured_frame, exception, raising, request,
};
use observer_model::views::metrics_view::{ClassView, ErrorView, SlotView, Snapshot};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What can happen, to few enough processes that they meet.
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
        18 => scenario.look(a, look(b)),
        19 => scenario.event(Event::DeepCaptureExhausted { time_ns: now_ns }),
        // While a look may be taken: what fails then has no exception.
        20 => scenario.later(1).fail(a, 503),
        21 => scenario.event(Event::Gc {
            time_ns: now_ns,
            pid: a,
            pause_ns: u64::from(b) * 1_000,
        }),
        // It never finishes.
        _ => scenario.event(Event::Exception(Box::new(exception(
            &request(a, now_ns + 1),
            b.into(),
            class(b),
        )))),
    };
}

/// Classes of exceptions.
fn class(number: u32) -> &'static str {
    ["A", "B", "C"].get(number as usize % 3).unwrap()
}

fn look(number: u32) -> DeepCaptureState {
    match number {
        1 | 2 => DeepCaptureState::Looking,
        3 => DeepCaptureState::Resting,
        4 => DeepCaptureState::Failed,
        _ => DeepCaptureState::Over,
    }
}

/// A request fails, and its exception goes up some frames before it is handled, or is not.
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

/// For each app that is shown: responses that failed by what they failed of, and the same
/// by how long they took.
fn failed(snapshot: &Snapshot) -> BTreeMap<String, (u64, u64)> {
    let mut failed: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for app in &snapshot.apps {
        let (by_error, by_status) = failed.entry(app.app.clone()).or_default();
        *by_error += app.http_errors.iter().map(|e| e.count).sum::<u64>();
        let series = app.http.iter().filter(|s| matches!(s.status, Some(500..)));
        *by_status += series.map(|s| s.duration.count()).sum::<u64>();
    }
    failed
}

/// The counts of the series that are told apart by the app's name only; and the name.
fn shared(snapshot: &Snapshot) -> BTreeMap<String, (String, Vec<u64>)> {
    let shared = [
        "http_server_request_duration_seconds",
        "gunicorn_request_phase_seconds",
        "gunicorn_http_errors_total",
    ];
    let families = exposition::families(snapshot, WorkerLabel::Pid);
    let shared = families
        .iter()
        .filter(|family| shared.contains(&family.name()));
    let series = shared.flat_map(|family| {
        family.get_metric().iter().map(|metric| {
            let labels = metric.get_label();
            let app = labels.iter().find(|label| label.name() == "app").unwrap();
            let histogram = metric.get_histogram();
            let buckets = histogram.get_bucket().iter();
            let mut counts: Vec<_> = buckets
                .map(::prometheus::proto::Bucket::cumulative_count)
                .collect();
            counts.push(histogram.get_sample_count());
            // The bits of numbers that are not negative are in the order of the numbers.
            counts.push(metric.get_counter().get_value().to_bits());
            let key = format!("{} {labels:?}", family.name());
            (key, (app.value().to_owned(), counts))
        })
    });
    series.collect()
}

proptest! {
    #[test]
    fn whatever_happens_no_shared_counter_falls(
        steps in proptest::collection::vec(step(), 0..120)
    ) {
        let mut scenario = Scenario::new();
        let mut before: BTreeMap<String, (String, Vec<u64>)> = BTreeMap::new();
        for step in steps {
            happens(&mut scenario, step);
            let snapshot = scenario.snapshot();
            let now = shared(&snapshot);
            for (series, (app, counts)) in &before {
                let Some((_, now)) = now.get(series) else {
                    let has_heir = snapshot.apps.iter().any(|a| a.observed && a.app == *app);
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
    fn whatever_happens_every_5xx_is_one_error_of_its_app(
        steps in proptest::collection::vec(step(), 0..100)
    ) {
        let mut scenario = Scenario::new();
        for step in steps {
            happens(&mut scenario, step);
            for (app, (by_error, by_status)) in failed(&scenario.snapshot()) {
                // All of these requests have a duration: one without is in no histogram.
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
        let snapshot = scenario.snapshot();
        let claimed: u64 = snapshot.apps.iter().map(app_requests).sum();
        let seen = snapshot.observer.events["request"];
        prop_assert_eq!(claimed + pending + scenario.lost("unclaimed"), seen);
    }

    #[test]
    fn whatever_happens_the_view_holds_together(
        steps in proptest::collection::vec(step(), 0..80)
    ) {
        let mut scenario = Scenario::new();
        for step in steps {
            happens(&mut scenario, step);
            let snapshot = scenario.snapshot();
            let mut live = Vec::new();
            for app in &snapshot.apps {
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
        // Long after the end of all of them nothing is left.
        for pid in 1..6 {
            scenario.exit(pid);
        }
        scenario.later(1000);
        prop_assert!(scenario.snapshot().apps.is_empty());
    }
}
