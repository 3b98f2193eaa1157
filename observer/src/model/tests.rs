//! The life of masters and workers, told by hand-made inputs.

use super::{Settings, State};
use crate::event::{Event, ExitStatus, Pid, Request};
use crate::fact::{self, Fact, KernelTotals, Level, Started, TargetLevel};
use crate::input::Input;
use crate::snapshot::{AppView, Snapshot, WorkerView};
use proptest::prelude::*;

const S: u64 = 1_000_000_000;

/// A state, and the moment of its story.
struct Story {
    state: State,
    now_ns: u64,
}

impl Story {
    fn new() -> Self {
        let mut story = Self {
            state: State::new(Settings::default()),
            now_ns: 100 * S,
        };
        let wall_offset_ns = 1_700_000_000 * i64::try_from(S).unwrap();
        let version = "1".to_owned();
        story.fact(Fact::Started(Started {
            wall_offset_ns,
            version,
            revision: String::new(),
        }));
        story
    }

    fn event(&mut self, event: Event) -> &mut Self {
        self.state.apply(&Input::Event(event));
        self
    }

    fn fact(&mut self, fact: Fact) -> &mut Self {
        self.state.apply(&Input::Fact {
            time_ns: self.now_ns,
            fact,
        });
        self
    }

    fn later(&mut self, seconds: u64) -> &mut Self {
        self.now_ns += seconds * S;
        self.state.apply(&Input::Tick {
            now_ns: self.now_ns,
        });
        self
    }

    fn fork(&mut self, parent: Pid, child: Pid) -> &mut Self {
        self.event(Event::Fork {
            time_ns: self.now_ns,
            parent,
            child,
        })
    }

    fn exec(&mut self, pid: Pid) -> &mut Self {
        let command = "x".to_owned();
        self.event(Event::Exec {
            time_ns: self.now_ns,
            pid,
            was_target: true,
            command,
        })
    }

    fn exit(&mut self, pid: Pid) -> &mut Self {
        self.event(Event::Exit {
            time_ns: self.now_ns,
            pid,
            status: ExitStatus::Code(3),
        })
    }

    fn get(&mut self, pid: Pid) -> &mut Self {
        let request = request(pid, self.now_ns);
        self.event(Event::Request(Box::new(request)))
    }

    fn master(&mut self, pid: Pid) -> &mut Self {
        self.named_master(pid, "shop")
    }

    fn named_master(&mut self, pid: Pid, app: &str) -> &mut Self {
        self.fact(Fact::Master(fact::Master {
            pid,
            started_ns: 50 * S,
            app: app.to_owned(),
            worker_class: "SyncWorker".to_owned(),
            timeout_seconds: Some(30),
            ..fact::Master::default()
        }))
    }

    fn worker(&mut self, master_pid: Pid, pid: Pid, age: u64) -> &mut Self {
        let started_ns = self.now_ns;
        let class = "ThreadWorker".to_owned();
        let age = Some(age);
        self.fact(Fact::Worker(fact::Worker {
            pid,
            master_pid,
            started_ns,
            age,
            class,
        }))
    }

    fn snapshot(&self) -> Snapshot {
        self.state.snapshot(self.now_ns)
    }

    fn app(&self) -> AppView {
        let mut apps = self.snapshot().apps;
        assert_eq!(apps.len(), 1, "one app");
        apps.remove(0)
    }

    fn workers(&self) -> Vec<(Pid, u64)> {
        self.app()
            .workers
            .iter()
            .map(|worker| (worker.pid, worker.tally.requests))
            .collect()
    }

    fn one_worker(&self) -> WorkerView {
        let mut workers = self.app().workers;
        assert_eq!(workers.len(), 1, "one worker");
        workers.remove(0)
    }

    fn lost(&self, cause: &str) -> u64 {
        self.snapshot()
            .observer
            .lost
            .get(cause)
            .copied()
            .unwrap_or(0)
    }
}

fn request(pid: Pid, now_ns: u64) -> Request {
    Request {
        pid,
        entered_ns: Some(now_ns - 2_000_000),
        exited_ns: Some(now_ns),
        finished_ns: now_ns,
        method: Some("GET".to_owned()),
        path: Some("/users/7".to_owned()),
        status: Some(200),
        ..Request::default()
    }
}

fn app_requests(app: &AppView) -> u64 {
    app.classes.iter().map(|class| class.tally.requests).sum()
}

#[test]
fn requests_before_the_master_is_known_are_kept_until_it_is() {
    let mut story = Story::new();
    story.fork(10, 11).get(11).get(11);
    assert!(story.snapshot().apps.is_empty());
    story.master(10);
    assert_eq!(story.workers(), [(11, 2)]);
    let app = story.app();
    assert_eq!(app_requests(&app), 2);
    assert_eq!((app.http.len(), &*app.http[0].route), (1, "/users/{id}"));
    assert_eq!(
        (&*app.http[0].class, app.http[0].duration.count()),
        ("SyncWorker", 2)
    );
}

#[test]
fn a_worker_that_ended_before_its_master_was_known_still_counts() {
    let mut story = Story::new();
    story.fork(10, 11).get(11).exit(11).master(10);
    assert_eq!(story.workers(), [(11, 1)]);
    assert_eq!(
        (story.app().workers_live, story.one_worker().exit_code),
        (0, Some(3))
    );
    // What its master tells of it now does not wake it up.
    story.worker(10, 11, 4);
    assert_eq!(
        (story.app().workers_live, story.one_worker().age),
        (0, Some(4))
    );
}

#[test]
fn a_fork_of_a_known_master_is_a_worker_at_once() {
    let mut story = Story::new();
    story.master(10).fork(10, 11).get(11);
    let worker = story.one_worker();
    assert_eq!(worker.id, "worker_unknown_1700000100");
    assert_eq!((&*worker.class, worker.confirmed), ("SyncWorker", false));
    story.worker(10, 11, 1).get(11);
    let worker = story.one_worker();
    assert_eq!(worker.id, "worker_1_1700000100");
    assert_eq!((&*worker.class, worker.tally.requests), ("ThreadWorker", 2));
}

#[test]
fn workers_that_were_there_before_are_told_by_their_master() {
    let mut story = Story::new();
    // In any order: the request first, then the worker, then the master.
    story.get(11).worker(10, 11, 7);
    assert!(story.snapshot().apps.is_empty());
    story.master(10).get(11);
    assert_eq!(story.workers(), [(11, 2)]);
    assert_eq!(story.one_worker().age, Some(7));
}

#[test]
fn what_is_not_gunicorn_leaves_nothing_behind() {
    let mut story = Story::new();
    story
        .fork(10, 11)
        .get(11)
        .fact(Fact::NotGunicorn { pid: 10 })
        .master(10);
    assert_eq!(story.workers(), []);
}

#[test]
fn a_worker_that_is_no_master_is_still_a_worker() {
    let mut story = Story::new();
    // Every child of a candidate is itself looked at: it may be a daemon's master.
    story.fork(10, 11).get(11).exit(11);
    story.fact(Fact::NotGunicorn { pid: 11 }).master(10);
    assert_eq!(story.workers(), [(11, 1)]);
}

#[test]
fn a_host_that_slept_does_not_make_new_processes_of_old_ones() {
    let mut story = Story::new();
    story
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
    story.fact(Fact::Master(master)).get(11);
    assert_eq!(story.workers(), [(11, 2)]);
}

#[test]
fn a_daemonized_masters_workers_are_its_own() {
    let mut story = Story::new();
    // 10 launches 11, which launches 12, the master; 13 is its worker.
    story
        .fork(10, 11)
        .exit(10)
        .fork(11, 12)
        .exit(11)
        .fork(12, 13)
        .get(13);
    story
        .fact(Fact::NotGunicorn { pid: 10 })
        .fact(Fact::NotGunicorn { pid: 11 });
    story.master(12);
    assert_eq!(story.workers(), [(13, 1)]);
}

#[test]
fn a_subprocess_of_a_master_is_no_worker() {
    let mut story = Story::new();
    story
        .fork(10, 11)
        .exec(11)
        .master(10)
        .fork(10, 12)
        .exec(12)
        .fork(10, 13);
    assert_eq!(story.workers(), [(13, 0)]);
    // The slot of the subprocess is free again.
    assert_eq!(story.one_worker().slot, 0);
}

#[test]
fn a_worker_that_executes_another_program_has_ended() {
    let mut story = Story::new();
    story
        .master(10)
        .fork(10, 11)
        .worker(10, 11, 1)
        .exec(11)
        .get(11);
    assert!(story.one_worker().ended);
}

#[test]
fn children_of_workers_are_not_workers() {
    let mut story = Story::new();
    story.master(10).fork(10, 11).fork(11, 12);
    assert_eq!(story.workers(), [(11, 0)]);
}

#[test]
fn an_ended_workers_series_go_and_its_apps_counts_stay() {
    let mut story = Story::new();
    story.master(10).fork(10, 11).get(11).exit(11).later(299);
    assert_eq!(story.workers(), [(11, 1)]);
    assert_eq!(story.one_worker().uptime_seconds, None);
    story.later(2);
    assert_eq!(story.workers(), []);
    assert_eq!(app_requests(&story.app()), 1);
    assert_eq!(story.app().slots[0].tally.requests, 1);
}

#[test]
fn a_reused_pid_is_a_new_worker() {
    let mut story = Story::new();
    story
        .master(10)
        .fork(10, 11)
        .worker(10, 11, 1)
        .get(11)
        .exit(11);
    story
        .later(2)
        .fork(10, 11)
        .worker(10, 11, 2)
        .get(11)
        .get(11);
    assert_eq!(story.workers(), [(11, 2), (11, 1)]);
    assert_eq!(app_requests(&story.app()), 3);
    // Also when its end was not seen.
    story.later(2).worker(10, 11, 3).get(11);
    assert_eq!(story.workers(), [(11, 1), (11, 1), (11, 2)]);
    assert_eq!(story.app().workers_live, 1);
}

#[test]
fn a_request_that_is_told_after_its_workers_end_counts() {
    let mut story = Story::new();
    story.master(10).fork(10, 11).exit(11).get(11);
    assert_eq!(story.workers(), [(11, 1)]);
}

#[test]
fn a_fact_about_a_worker_that_is_gone_does_not_bring_it_back() {
    let mut story = Story::new();
    story.master(10).exit(11).worker(10, 11, 1);
    assert_eq!(story.app().workers_live, 0);
}

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

/// What can happen, to few enough processes that they meet.
fn step() -> impl Strategy<Value = (u8, Pid, Pid)> {
    (0..10_u8, 1..6_u32, 1..6_u32)
}

proptest! {
    #[test]
    fn whatever_happens_the_view_holds_together(
        steps in proptest::collection::vec(step(), 0..80)
    ) {
        let mut story = Story::new();
        for (what, a, b) in steps {
            match what {
                0 | 1 => story.fork(a, b),
                2 | 3 => story.get(a),
                4 => story.exit(a),
                5 => story.exec(a),
                6 => story.master(a),
                7 => story.worker(a, b, u64::from(a)),
                8 => story.fact(Fact::NotGunicorn { pid: a }),
                _ => story.later(u64::from(a) * 70),
            };
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
