//! Masters: their state, counters and losses.

use crate::counters::worker_counters::Counters;
use crate::event::{Event, Request};
use crate::fact::{Fact, KernelTotals, Level, TargetLevel};
use crate::input::Input;
use crate::testing::scenarios::{S, Scenario, app_requests, request};

#[test]
fn an_app_stays_a_while_after_its_master_exited() {
    let mut scenario = Scenario::new();
    scenario
        .master(10)
        .fork(10, 11)
        .get(11)
        .exit(11)
        .exit(10)
        .later(299);
    assert!(scenario.app().ended);
    scenario.master(10);
    assert!(scenario.app().ended, "a late fact does not revive it");
    scenario.later(2);
    assert!(scenario.metrics_view().apps.is_empty());
}

#[test]
fn a_successor_of_the_same_name_keeps_the_shared_counters() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).get(11);
    scenario
        .master(20)
        .fork(20, 21)
        .get(21)
        .exit(11)
        .exit(10)
        .later(301);
    let app = scenario.app();
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
fn an_exited_successor_keeps_the_shared_counters() {
    let mut scenario = Scenario::new();
    for master in [10, 20, 30] {
        scenario
            .master(master)
            .fork(master, master + 1)
            .get(master + 1);
    }
    // The last one to exit has neither the lowest nor the highest pid.
    scenario.exit(11).exit(10).later(100);
    scenario.exit(31).exit(30).later(100).exit(21).exit(20);
    for (later, masters) in [(101, 2), (100, 1)] {
        scenario.later(later);
        assert_eq!(scenario.metrics_view().apps.len(), masters);
        assert_eq!(scenario.served(), 3);
    }
    scenario.later(100);
    assert!(scenario.metrics_view().apps.is_empty());
}

#[test]
fn a_name_keeps_its_counters_when_a_master_changes_it() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).get(11).master(20);
    scenario.named_master(10, "till").get(11);
    let of = |scenario: &Scenario, name: &str| -> u64 {
        let apps = scenario.metrics_view().apps;
        let series = apps.iter().filter(|app| app.app == name);
        let series = series.flat_map(|app| &app.http);
        series.map(|series| series.duration.count()).sum()
    };
    assert_eq!((of(&scenario, "shop"), of(&scenario, "till")), (1, 1));
}

#[test]
fn exited_masters_are_forgotten_even_if_no_view_is_built() {
    let mut scenario = Scenario::new();
    scenario
        .master(10)
        .fork(10, 11)
        .exit(11)
        .master(20)
        .exit(20)
        .get(77);
    // No tick comes, only facts of the watcher.
    scenario.now_ns += 601 * S;
    let entries = [("targets".to_owned(), 2)].into();
    scenario.fact(Fact::Maps { entries });
    assert_eq!(scenario.app().master_pid, 10);
    assert_eq!(scenario.workers(), []);
    assert_eq!(scenario.lost("unclaimed"), 1);
}

#[test]
fn a_master_that_cannot_be_observed_stays_so_after_its_exit() {
    let mut scenario = Scenario::new();
    scenario.level(10, Level::None).master(10);
    assert!(!scenario.app().observed, "the level came first");
    scenario.exit(10);
    assert!(!scenario.app().observed);
    scenario.master(20).level(20, Level::None);
    assert!(!scenario.metrics_view().apps[1].observed);
    scenario.level(20, Level::Full);
    assert!(scenario.metrics_view().apps[1].observed);
}

#[test]
fn an_upgrade_makes_a_second_master() {
    let mut scenario = Scenario::new();
    // SIGUSR2: the child executes Gunicorn again and becomes a master itself.
    scenario
        .master(10)
        .fork(10, 20)
        .exec(20)
        .fork(20, 21)
        .get(21)
        .named_master(20, "shop");
    let apps = scenario.metrics_view().apps;
    let pids: Vec<_> = apps
        .iter()
        .map(|app| (app.master_pid, app.workers.len()))
        .collect();
    assert_eq!(pids, [(10, 0), (20, 1)]);
}

#[test]
fn a_refused_request_counts_only_in_http_series() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    let bad = Request {
        pid: 11,
        bad_request: true,
        first_read_ns: Some(S),
        last_write_ns: Some(2 * S),
        status: Some(400),
        ..Request::default()
    };
    scenario.event(Event::Request(Box::new(bad)));
    let app = scenario.app();
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
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    let failed = Request {
        status: Some(503),
        ..request(11, scenario.now_ns)
    };
    scenario.get(11).event(Event::Request(Box::new(failed)));
    let types: Vec<_> = scenario
        .app()
        .http
        .iter()
        .map(|http| http.error_type.clone())
        .collect();
    assert_eq!(types, ["", "503"]);
}

#[test]
fn slots_are_the_lowest_free_numbers() {
    let mut scenario = Scenario::new();
    scenario
        .master(10)
        .fork(10, 11)
        .fork(10, 12)
        .fork(10, 13)
        .exit(12)
        .fork(10, 14)
        .get(14);
    let slots: Vec<_> = scenario
        .app()
        .workers
        .iter()
        .map(|w| (w.pid, w.slot))
        .collect();
    assert_eq!(slots, [(11, 0), (13, 2), (14, 1), (12, 1)]);
}

#[test]
fn counts_stay_with_the_class_that_a_worker_had_and_with_its_slot() {
    let mut scenario = Scenario::new();
    // Its class is known after its first request only.
    scenario.master(10).fork(10, 11).get(11);
    scenario.worker(10, 11, 1).get(11).get(11);
    for _ in 0..2 {
        let app = scenario.app();
        assert_eq!(app.workers[0].counters.requests, 3);
        let slots = app.slots.iter();
        let slots: Vec<_> = slots
            .map(|of| (of.slot, &*of.class, of.counters.requests))
            .collect();
        assert_eq!(slots, [(0, "SyncWorker", 1), (0, "ThreadWorker", 2)]);
        let classes = app.classes.iter();
        let classes: Vec<_> = classes
            .map(|of| (&*of.class, of.counters.requests))
            .collect();
        assert_eq!(classes, [("SyncWorker", 1), ("ThreadWorker", 2)]);
        scenario.exit(11);
    }
    // The worker is forgotten, the counts of its slot are not.
    scenario.later(24 * 3600);
    let app = scenario.app();
    assert_eq!((app.workers.len(), app.slots.len()), (0, 2));
    assert_eq!(app_requests(&app), 3);
    assert_eq!(scenario.live_view().apps[0].requests_total, 3);
}

#[test]
fn unclaimed_requests_are_forgotten_and_counted_as_lost() {
    let mut scenario = Scenario::new();
    scenario.get(77).later(599);
    assert_eq!(scenario.lost("unclaimed"), 0);
    scenario.later(2);
    assert_eq!(scenario.lost("unclaimed"), 1);
}

#[test]
fn a_busy_unclaimed_process_is_forgotten_too() {
    let mut scenario = Scenario::new();
    for _ in 0..7 {
        scenario.get(77).later(100);
    }
    assert_eq!(scenario.lost("unclaimed"), 7);
}

#[test]
fn every_dropped_request_is_counted_as_lost() {
    let refused = |scenario: &Scenario, pid| Request {
        bad_request: true,
        ..request(pid, scenario.now_ns)
    };
    // The process executes another program.
    let mut scenario = Scenario::new();
    scenario.fork(10, 11).get(11).exec(11);
    assert_eq!(scenario.lost("unclaimed"), 1);
    // The process is a master itself; a refused request counts too.
    let bad = refused(&scenario, 20);
    scenario
        .event(Event::Request(Box::new(bad)))
        .get(20)
        .master(20);
    assert_eq!(scenario.lost("unclaimed"), 3);
    // The process is no master, or the child of one that is none.
    scenario.fork(30, 31).get(31).get(30);
    scenario.fact(Fact::NotGunicorn { pid: 30 });
    assert_eq!(scenario.lost("unclaimed"), 5);
    // The pid was reused.
    scenario.fork(40, 41).get(41).fork(40, 41);
    assert_eq!(scenario.lost("unclaimed"), 6);
}

#[test]
fn losses_and_levels_are_shown() {
    let mut scenario = Scenario::new();
    let totals = KernelTotals {
        lost: [("ring_full".to_owned(), 5)].into(),
        ..Default::default()
    };
    scenario.master(10).fact(Fact::Kernel(totals));
    let reason = "Python 2".to_owned();
    scenario.fact(Fact::Level(TargetLevel {
        pid: 10,
        level: Level::Socket,
        reason,
    }));
    scenario.state.apply(&Input::Malformed("kind"));
    let observer = scenario.metrics_view().observer;
    assert_eq!(
        (scenario.lost("ring_full"), scenario.lost("malformed_kind")),
        (5, 1)
    );
    assert_eq!(
        (&*observer.targets[0].app, observer.targets[0].level),
        ("shop", "socket")
    );
    scenario.exit(10);
    assert!(scenario.metrics_view().observer.targets.is_empty());
}

#[test]
fn gil_wait_is_counted_once_and_stays_with_its_slot() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).worker(10, 11, 1);
    for total_ns in [S, 3 * S] {
        let waits = [(11, total_ns), (99, S)].into();
        scenario.fact(Fact::Gil { waits });
    }
    scenario.event(Event::Gc {
        time_ns: scenario.now_ns,
        pid: 11,
        pause_ns: S,
    });
    scenario.exit(11).fork(10, 12);
    let waits = [(12, S)].into();
    scenario.fact(Fact::Gil { waits });
    let app = scenario.app();
    let workers: Vec<_> = app
        .workers
        .iter()
        .map(|it| it.counters.gil_wait_ns)
        .collect();
    assert_eq!(workers, [Some(S), Some(3 * S)]);
    // The class of the second worker is unknown.
    let of_slots = |value: fn(&Counters) -> u64| -> Vec<u64> {
        app.slots.iter().map(|slot| value(&slot.counters)).collect()
    };
    let mut waits = of_slots(|counters| counters.gil_wait_ns.unwrap_or(0));
    waits.sort_unstable();
    assert_eq!(waits, [S, 3 * S]);
    let collections = of_slots(|counters| counters.gc_pause.count());
    assert_eq!(collections.iter().sum::<u64>(), 1);
}
