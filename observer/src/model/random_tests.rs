//! What holds whatever happens.

use super::story::{Story, app_requests};
use crate::event::Pid;
use crate::fact::{Fact, Level};
use crate::sink::prometheus::{self, WorkerLabel};
use crate::snapshot::Snapshot;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What can happen, to few enough processes that they meet.
fn step() -> impl Strategy<Value = (u8, Pid, Pid)> {
    (0..14_u8, 1..6_u32, 1..6_u32)
}

fn happens(story: &mut Story, (what, a, b): (u8, Pid, Pid)) {
    let now_ns = story.now_ns;
    match what {
        0 | 1 => story.fork(a, b),
        2 | 3 => story.get(a),
        4 => story.exit(a),
        5 => story.exec(a),
        6 => story.master(a),
        7 => story.worker(a, b, u64::from(a)),
        8 => story.fact(Fact::NotGunicorn { pid: a }),
        9 => story.named_master(a, "till"),
        10 => story.master_since(a, "shop", now_ns),
        11 => story.level(a, if b < 3 { Level::None } else { Level::Full }),
        12 => story.fork(a, b).get(b),
        _ => story.later(u64::from(a) * 70),
    };
}

/// The counts of the series that are told apart by the app's name only; and the name.
fn shared(snapshot: &Snapshot) -> BTreeMap<String, (String, Vec<u64>)> {
    let shared = [
        "http_server_request_duration_seconds",
        "gunicorn_request_phase_seconds",
    ];
    let families = prometheus::families(snapshot, WorkerLabel::Pid);
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
        let mut story = Story::new();
        let mut before: BTreeMap<String, (String, Vec<u64>)> = BTreeMap::new();
        for step in steps {
            happens(&mut story, step);
            let snapshot = story.snapshot();
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
    fn every_request_is_counted_somewhere_while_no_master_is_forgotten(
        steps in proptest::collection::vec(step(), 0..80)
    ) {
        let mut story = Story::new();
        let forgets = |what| matches!(what, 10 | 13);
        for step in steps.into_iter().filter(|&(what, ..)| !forgets(what)) {
            happens(&mut story, step);
        }
        let pending: u64 = story.state.provisional.values().map(|p| p.requests).sum();
        let snapshot = story.snapshot();
        let claimed: u64 = snapshot.apps.iter().map(app_requests).sum();
        let seen = snapshot.observer.events["request"];
        prop_assert_eq!(claimed + pending + story.lost("unclaimed"), seen);
    }

    #[test]
    fn whatever_happens_the_view_holds_together(
        steps in proptest::collection::vec(step(), 0..80)
    ) {
        let mut story = Story::new();
        for step in steps {
            happens(&mut story, step);
            let snapshot = story.snapshot();
            let mut live = Vec::new();
            for app in &snapshot.apps {
                let of_app = app.workers.iter().filter(|worker| !worker.ended);
                live.extend(of_app.clone().map(|worker| worker.pid));
                prop_assert_eq!(of_app.count(), app.workers_live as usize);
                let by_slot: u64 = app.slots.iter().map(|slot| slot.tally.requests).sum();
                prop_assert_eq!(by_slot, app_requests(app));
                let shown: u64 = app.workers.iter().map(|worker| worker.tally.requests).sum();
                prop_assert!(shown <= by_slot);
            }
            let count = live.len();
            live.sort_unstable();
            live.dedup();
            prop_assert_eq!(live.len(), count, "a process is one worker");
        }
        // Long after the end of all of them nothing is left.
        for pid in 1..6 {
            story.exit(pid);
        }
        story.later(1000);
        prop_assert!(story.snapshot().apps.is_empty());
    }
}
