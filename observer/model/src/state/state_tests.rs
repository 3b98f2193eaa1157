//! Workers: their state and counters.

use crate::event::{Event, TimedBy};
use crate::fact;
use crate::fact::{Fact, MasterGauges};
use crate::testing::scenarios::{S, Scenario, app_requests, request};

#[test]
fn requests_before_the_master_is_known_are_kept_until_it_is() {
    let mut scenario = Scenario::new();
    scenario.fork(10, 11).get(11).get(11);
    assert!(scenario.metrics_view().apps.is_empty());
    scenario.master(10);
    assert_eq!(scenario.workers(), [(11, 2)]);
    let app = scenario.app();
    assert_eq!(app_requests(&app), 2);
    assert_eq!((app.http.len(), &*app.http[0].route), (1, "/users/{id}"));
    assert_eq!(
        (&*app.http[0].class, app.http[0].duration.count()),
        ("SyncWorker", 2)
    );
}

#[test]
fn a_worker_that_exited_before_its_master_was_known_still_counts() {
    let mut scenario = Scenario::new();
    scenario.fork(10, 11).get(11).exit(11).master(10);
    assert_eq!(scenario.workers(), [(11, 1)]);
    assert_eq!(
        (
            scenario.app().workers_live,
            scenario.live_view().apps[0].workers[0].exit_code
        ),
        (0, Some(3))
    );
    // A late fact about it does not revive it.
    scenario.worker(10, 11, 4);
    assert_eq!(
        (scenario.app().workers_live, scenario.one_worker().age),
        (0, Some(4))
    );
}

#[test]
fn a_fork_of_a_known_master_is_a_worker_at_once() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).get(11);
    let worker = scenario.one_worker();
    assert_eq!(worker.id, "worker_unknown_1700000100");
    assert_eq!((&*worker.class, worker.confirmed), ("SyncWorker", false));
    scenario.worker(10, 11, 1).get(11);
    let worker = scenario.one_worker();
    assert_eq!(worker.id, "worker_1_1700000100");
    assert_eq!(
        (&*worker.class, worker.counters.requests),
        ("ThreadWorker", 2)
    );
}

#[test]
fn workers_from_before_the_observer_come_from_their_master() {
    let mut scenario = Scenario::new();
    // The order does not matter: first the request, then the worker, then the master.
    scenario.get(11).worker(10, 11, 7);
    assert!(scenario.metrics_view().apps.is_empty());
    scenario.master(10).get(11);
    assert_eq!(scenario.workers(), [(11, 2)]);
    assert_eq!(scenario.one_worker().age, Some(7));
}

#[test]
fn a_process_that_is_not_gunicorn_leaves_no_series() {
    let mut scenario = Scenario::new();
    scenario
        .fork(10, 11)
        .get(11)
        .fact(Fact::NotGunicorn { pid: 10 })
        .master(10);
    assert_eq!(scenario.workers(), []);
    // Only its requests are counted as lost.
    assert_eq!(scenario.lost("unclaimed"), 1);
}

#[test]
fn a_worker_that_is_no_master_is_still_a_worker() {
    let mut scenario = Scenario::new();
    // Every child of a candidate is a candidate: it may be the master of a daemon.
    scenario.fork(10, 11).get(11).exit(11);
    scenario.fact(Fact::NotGunicorn { pid: 11 }).master(10);
    assert_eq!(scenario.workers(), [(11, 1)]);
}

#[test]
fn processes_stay_the_same_after_the_host_slept() {
    let mut scenario = Scenario::new();
    scenario
        .master(10)
        .fork(10, 11)
        .get(11)
        .later(3600)
        .worker(10, 11, 1);
    let master = fact::Master {
        pid: 10,
        started_ns: S,
        app: "shop".to_owned(),
        ..Default::default()
    };
    scenario.fact(Fact::Master(master)).get(11);
    assert_eq!(scenario.workers(), [(11, 2)]);
}

#[test]
fn a_daemonized_masters_workers_are_its_own() {
    let mut scenario = Scenario::new();
    // 10 launches 11, which launches 12, the master; 13 is its worker.
    scenario
        .fork(10, 11)
        .exit(10)
        .fork(11, 12)
        .exit(11)
        .fork(12, 13)
        .get(13);
    scenario
        .fact(Fact::NotGunicorn { pid: 10 })
        .fact(Fact::NotGunicorn { pid: 11 });
    scenario.master(12);
    assert_eq!(scenario.workers(), [(13, 1)]);
}

#[test]
fn a_subprocess_of_a_master_is_no_worker() {
    let mut scenario = Scenario::new();
    scenario
        .fork(10, 11)
        .exec(11)
        .master(10)
        .fork(10, 12)
        .exec(12)
        .fork(10, 13);
    assert_eq!(scenario.workers(), [(13, 0)]);
    // The slot of the subprocess is free again.
    assert_eq!(scenario.one_worker().slot, 0);
}

#[test]
fn a_worker_that_executes_another_program_counts_as_exited() {
    let mut scenario = Scenario::new();
    scenario
        .master(10)
        .fork(10, 11)
        .worker(10, 11, 1)
        .exec(11)
        .get(11);
    assert!(scenario.one_worker().ended);
}

#[test]
fn children_of_workers_are_not_workers() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).fork(11, 12);
    assert_eq!(scenario.workers(), [(11, 0)]);
}

#[test]
fn series_of_an_exited_worker_go_and_the_counts_of_its_app_stay() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).get(11).exit(11).later(299);
    assert_eq!(scenario.workers(), [(11, 1)]);
    assert_eq!(scenario.one_worker().uptime_seconds, None);
    scenario.later(2);
    assert_eq!(scenario.workers(), []);
    assert_eq!(app_requests(&scenario.app()), 1);
    assert_eq!(scenario.app().slots[0].counters.requests, 1);
}

#[test]
fn a_reused_pid_is_a_new_worker() {
    let mut scenario = Scenario::new();
    scenario
        .master(10)
        .fork(10, 11)
        .worker(10, 11, 1)
        .get(11)
        .exit(11);
    scenario
        .later(2)
        .fork(10, 11)
        .worker(10, 11, 2)
        .get(11)
        .get(11);
    assert_eq!(scenario.workers(), [(11, 2), (11, 1)]);
    assert_eq!(app_requests(&scenario.app()), 3);
    // The same when its exit was not seen.
    scenario.later(2).worker(10, 11, 3).get(11);
    assert_eq!(scenario.workers(), [(11, 1), (11, 1), (11, 2)]);
    assert_eq!(scenario.app().workers_live, 1);
}

#[test]
fn a_request_reported_after_the_exit_of_its_worker_counts() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).exit(11).get(11);
    assert_eq!(scenario.workers(), [(11, 1)]);
}

#[test]
fn a_fact_about_an_exited_worker_does_not_revive_it() {
    let mut scenario = Scenario::new();
    scenario.master(10).exit(11).worker(10, 11, 1);
    assert_eq!(scenario.app().workers_live, 0);
}

#[test]
fn unclaimed_requests_seen_only_by_system_calls_are_not_lost() {
    let mut scenario = Scenario::new();
    let mut answered = request(20, scenario.now_ns);
    answered.timed_by = TimedBy::Socket;
    (answered.entered_ns, answered.exited_ns) = (None, None);
    answered.first_read_ns = Some(scenario.now_ns - 3_000_000);
    answered.last_write_ns = Some(scenario.now_ns);
    scenario.fork(10, 20);
    scenario.event(Event::Request(Box::new(answered.clone())));
    scenario.exec(20);
    assert_eq!(scenario.lost("unclaimed"), 0);

    scenario.fork(10, 21).master(10);
    answered.pid = 21;
    scenario.event(Event::Request(Box::new(answered)));
    let app = scenario.app();
    assert_eq!(app_requests(&app), 1);
    assert_eq!(scenario.served(), 1);
    let phases: Vec<_> = app.phases.iter().map(|phase| phase.phase).collect();
    assert!(phases.is_empty(), "{phases:?}");
}

#[test]
fn in_a_crash_loop_the_last_workers_are_shown_and_all_are_counted() {
    let mut scenario = Scenario::new();
    scenario.master(10);
    for pid in 100..2100 {
        scenario.fork(10, pid).get(pid).exit(pid);
    }
    let app = scenario.app();
    assert_eq!(app.workers.len(), 1000);
    assert_eq!(app.workers.last().map(|worker| worker.pid), Some(2099));
    assert_eq!(app.ends.values().sum::<u64>(), 2000);
    assert_eq!(scenario.served(), 2000);
}

#[test]
fn unclaimed_processes_are_bounded_and_those_with_requests_stay_longest() {
    let mut scenario = Scenario::new();
    // Their master is not known yet.
    scenario.fork(10, 11).get(11);
    for pid in 100..30_100 {
        scenario.fork(20, pid);
    }
    scenario.master(10);
    assert_eq!(scenario.workers(), [(11, 1)]);
    // Now all of them have requests: dropped ones count as lost.
    for pid in 40_000..60_000 {
        scenario.fork(20, pid).get(pid);
    }
    let lost = scenario.lost("unclaimed");
    assert!((20_000 - 8192..20_000).contains(&lost), "{lost} are lost");
}

#[test]
fn a_master_has_gauges_while_it_runs() {
    let mut scenario = Scenario::new();
    scenario.master(10);
    let gauges = |cpu_seconds| Fact::MasterGauges {
        masters: vec![MasterGauges {
            pid: 10,
            cpu_seconds,
            open_fds: Some(7),
            ..MasterGauges::default()
        }],
    };
    scenario.fact(gauges(1.0));
    let app = scenario.app();
    assert_eq!(app.gauges.and_then(|of| of.open_fds), Some(7));
    assert_eq!(app.cpu_percent, None, "one sample");
    scenario.later(2).fact(gauges(1.5));
    let app = scenario.app();
    assert_eq!(app.gauges.map(|of| of.cpu_seconds), Some(1.5));
    assert_eq!(app.cpu_percent, Some(25.0));
    scenario.exit(10);
    let app = scenario.app();
    assert_eq!((app.gauges, app.cpu_percent), (None, None));
}
