//! The life of masters, and what is counted for them and lost.

use super::story::{S, Story, app_requests, request};
use crate::event::{Event, Request};
use crate::fact::{Fact, KernelTotals, Level, TargetLevel};
use crate::input::Input;
use crate::model::tally::Tally;

#[test]
fn an_app_stays_a_while_after_its_master_and_then_goes() {
    let mut story = Story::new();
    story
        .master(10)
        .fork(10, 11)
        .get(11)
        .exit(11)
        .exit(10)
        .later(299);
    assert!(story.app().ended);
    story.master(10);
    assert!(story.app().ended, "a late fact does not wake it up");
    story.later(2);
    assert!(story.snapshot().apps.is_empty());
}

#[test]
fn a_successor_of_the_same_name_keeps_the_shared_counters() {
    let mut story = Story::new();
    story.master(10).fork(10, 11).get(11);
    story
        .master(20)
        .fork(20, 21)
        .get(21)
        .exit(11)
        .exit(10)
        .later(301);
    let app = story.app();
    assert_eq!(
        app.http
            .iter()
            .map(|series| series.duration.count())
            .sum::<u64>(),
        2
    );
    assert_eq!(app_requests(&app), 1);
}

#[test]
fn a_successor_that_has_ended_too_keeps_the_shared_counters() {
    let mut story = Story::new();
    for master in [10, 20, 30] {
        story
            .master(master)
            .fork(master, master + 1)
            .get(master + 1);
    }
    // The one that is to go last has neither the lowest nor the highest pid.
    story.exit(10).later(100).exit(30).later(100).exit(20);
    for (later, masters) in [(101, 2), (100, 1)] {
        story.later(later);
        assert_eq!(story.snapshot().apps.len(), masters);
        assert_eq!(story.served(), 3);
    }
    story.later(100);
    assert!(story.snapshot().apps.is_empty());
}

#[test]
fn a_name_that_a_master_leaves_keeps_its_counters() {
    let mut story = Story::new();
    story.master(10).fork(10, 11).get(11).master(20);
    story.named_master(10, "till").get(11);
    let of = |story: &Story, name: &str| -> u64 {
        let apps = story.snapshot().apps;
        let series = apps.iter().filter(|app| app.app == name);
        let series = series.flat_map(|app| &app.http);
        series.map(|series| series.duration.count()).sum()
    };
    assert_eq!((of(&story, "shop"), of(&story, "till")), (1, 1));
}

#[test]
fn without_anybody_asking_what_ended_is_forgotten_all_the_same() {
    let mut story = Story::new();
    story
        .master(10)
        .fork(10, 11)
        .exit(11)
        .master(20)
        .exit(20)
        .get(77);
    // No tick comes, only what the watcher tells.
    story.now_ns += 601 * S;
    let entries = [("targets".to_owned(), 2)].into();
    story.fact(Fact::Maps { entries });
    assert_eq!(story.app().master_pid, 10);
    assert_eq!(story.workers(), []);
    assert_eq!(story.lost("unclaimed"), 1);
}

#[test]
fn a_master_that_cannot_be_observed_says_so_also_after_its_end() {
    let mut story = Story::new();
    story.level(10, Level::None).master(10);
    assert!(!story.app().observed, "the level came first");
    story.exit(10);
    assert!(!story.app().observed);
    story.master(20).level(20, Level::None);
    assert!(!story.snapshot().apps[1].observed);
    story.level(20, Level::Full);
    assert!(story.snapshot().apps[1].observed);
}

#[test]
fn a_master_that_upgrades_is_followed_by_another() {
    let mut story = Story::new();
    // SIGUSR2: the child executes Gunicorn anew and becomes a master itself.
    story
        .master(10)
        .fork(10, 20)
        .exec(20)
        .fork(20, 21)
        .get(21)
        .named_master(20, "shop");
    let apps = story.snapshot().apps;
    let pids: Vec<_> = apps
        .iter()
        .map(|app| (app.master_pid, app.workers.len()))
        .collect();
    assert_eq!(pids, [(10, 0), (20, 1)]);
}

#[test]
fn a_refused_request_is_seen_by_http_only() {
    let mut story = Story::new();
    story.master(10).fork(10, 11);
    let bad = Request {
        pid: 11,
        bad_request: true,
        first_read_ns: Some(S),
        last_write_ns: Some(2 * S),
        status: Some(400),
        ..Request::default()
    };
    story.event(Event::Request(Box::new(bad)));
    let app = story.app();
    assert_eq!(app_requests(&app), 0);
    let http = &app.http[0];
    assert_eq!(
        (http.method, &*http.route, http.status),
        ("_OTHER", "", Some(400))
    );
    assert!((http.duration.sum() - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_server_error_has_its_status_as_error_type() {
    let mut story = Story::new();
    story.master(10).fork(10, 11);
    let failed = Request {
        status: Some(503),
        ..request(11, story.now_ns)
    };
    story.get(11).event(Event::Request(Box::new(failed)));
    let types: Vec<_> = story
        .app()
        .http
        .iter()
        .map(|http| http.error_type.clone())
        .collect();
    assert_eq!(types, ["", "503"]);
}

#[test]
fn slots_are_the_lowest_free_numbers() {
    let mut story = Story::new();
    story
        .master(10)
        .fork(10, 11)
        .fork(10, 12)
        .fork(10, 13)
        .exit(12)
        .fork(10, 14)
        .get(14);
    let slots: Vec<_> = story
        .app()
        .workers
        .iter()
        .map(|w| (w.pid, w.slot))
        .collect();
    assert_eq!(slots, [(11, 0), (13, 2), (14, 1), (12, 1)]);
}

#[test]
fn what_nobody_claims_is_forgotten_and_said() {
    let mut story = Story::new();
    story.get(77).later(599);
    assert_eq!(story.lost("unclaimed"), 0);
    story.later(2);
    assert_eq!(story.lost("unclaimed"), 1);
}

#[test]
fn what_nobody_claims_is_not_kept_for_ever_by_being_busy() {
    let mut story = Story::new();
    for _ in 0..7 {
        story.get(77).later(100);
    }
    assert_eq!(story.lost("unclaimed"), 7);
}

#[test]
fn every_way_to_drop_a_request_is_said() {
    let refused = |story: &Story, pid| Request {
        bad_request: true,
        ..request(pid, story.now_ns)
    };
    // It executes another program.
    let mut story = Story::new();
    story.fork(10, 11).get(11).exec(11);
    assert_eq!(story.lost("unclaimed"), 1);
    // It is a master itself; a refused request was seen too.
    let bad = refused(&story, 20);
    story
        .event(Event::Request(Box::new(bad)))
        .get(20)
        .master(20);
    assert_eq!(story.lost("unclaimed"), 3);
    // It is the child of what is no master, or that itself.
    story.fork(30, 31).get(31).get(30);
    story.fact(Fact::NotGunicorn { pid: 30 });
    assert_eq!(story.lost("unclaimed"), 5);
    // Its pid is another's now.
    story.fork(40, 41).get(41).fork(40, 41);
    assert_eq!(story.lost("unclaimed"), 6);
}

#[test]
fn losses_and_levels_are_shown() {
    let mut story = Story::new();
    let totals = KernelTotals {
        lost: [("ring_full".to_owned(), 5)].into(),
        ..Default::default()
    };
    story.master(10).fact(Fact::Kernel(totals));
    let reason = "Python 2".to_owned();
    story.fact(Fact::Level(TargetLevel {
        pid: 10,
        level: Level::Socket,
        reason,
    }));
    story.state.apply(&Input::Malformed("kind"));
    let observer = story.snapshot().observer;
    assert_eq!(
        (story.lost("ring_full"), story.lost("malformed_kind")),
        (5, 1)
    );
    assert_eq!(
        (&*observer.targets[0].app, observer.targets[0].level),
        ("shop", "socket")
    );
    story.exit(10);
    assert!(story.snapshot().observer.targets.is_empty());
}

#[test]
fn what_workers_waited_for_is_counted_once_and_stays_with_their_slot() {
    let mut story = Story::new();
    story.master(10).fork(10, 11).worker(10, 11, 1);
    for total_ns in [S, 3 * S] {
        let waits = [(11, total_ns), (99, S)].into();
        story.fact(Fact::Gil { waits });
    }
    story.event(Event::Gc {
        time_ns: story.now_ns,
        pid: 11,
        pause_ns: S,
    });
    story.exit(11).fork(10, 12);
    let waits = [(12, S)].into();
    story.fact(Fact::Gil { waits });
    let app = story.app();
    let workers: Vec<_> = app.workers.iter().map(|it| it.tally.gil_wait_ns).collect();
    assert_eq!(workers, [Some(S), Some(3 * S)]);
    // The second worker has not told its class.
    let of_slots = |value: fn(&Tally) -> u64| -> Vec<u64> {
        app.slots.iter().map(|slot| value(&slot.tally)).collect()
    };
    let mut waits = of_slots(|tally| tally.gil_wait_ns.unwrap_or(0));
    waits.sort_unstable();
    assert_eq!(waits, [S, 3 * S]);
    let collections = of_slots(|tally| tally.gc_pause.count());
    assert_eq!(collections.iter().sum::<u64>(), 1);
}
