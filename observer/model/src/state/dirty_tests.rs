//! Dirty pools: recognised as children of a master, and their exits.

use crate::event::{Event, ExitStatus, Pid};
use crate::fact::{Dirty, DirtyRole, Fact};
use crate::lifecycle::exit_reason::ExitReason;
use crate::testing::scenarios::Scenario;

/// A master 10 with the worker 11, the dirty arbiter 12 and the dirty worker 13.
fn pool() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).worker(10, 11, 1);
    scenario.fork(10, 12);
    found(&mut scenario, 12, DirtyRole::Arbiter, 10);
    scenario.fork(12, 13);
    scenario.effects();
    scenario
}

fn found(scenario: &mut Scenario, pid: Pid, role: DirtyRole, parent: Pid) {
    let started_ns = scenario.now_ns;
    scenario.fact(Fact::Dirty(Dirty {
        pid,
        master_pid: 10,
        role,
        parent,
        started_ns,
    }));
}

fn signal(scenario: &mut Scenario, pid: Pid, signal: u8, sender: Pid) {
    let time_ns = scenario.now_ns;
    scenario.event(Event::Signal {
        time_ns,
        pid,
        signal,
        sender: Some(sender),
        by_thread: false,
    });
}

fn exit(scenario: &mut Scenario, pid: Pid, status: ExitStatus) {
    let time_ns = scenario.now_ns;
    scenario.event(Event::Exit {
        time_ns,
        pid,
        status,
    });
}

/// Live arbiters and workers.
fn live(scenario: &Scenario) -> (u32, u32) {
    let dirty = scenario.app().dirty.unwrap();
    (dirty.live["arbiter"], dirty.live["worker"])
}

/// Class, PID and reason of each exit.
fn ended(scenario: &mut Scenario) -> Vec<(String, Option<Pid>, ExitReason)> {
    let events = scenario.worker_events().into_iter();
    let of = events.map(|it| {
        assert_eq!(it.event, "dirty_worker_ended");
        let class = it.worker_class.raw().to_owned();
        (class, it.worker_pid, it.exit.unwrap().reason)
    });
    of.collect()
}

#[test]
fn a_dirty_pool_is_no_worker_of_its_master() {
    let mut scenario = pool();
    assert_eq!(scenario.workers(), [(11, 0)]);
    assert_eq!(scenario.app().workers_live, 1);
    assert_eq!(live(&scenario), (1, 1));
    // One that is older than the observer; and one that is found twice.
    found(&mut scenario, 14, DirtyRole::Worker, 12);
    found(&mut scenario, 13, DirtyRole::Worker, 12);
    assert_eq!(live(&scenario), (1, 2));
    // Children of a dirty worker are nobody's.
    scenario.fork(13, 20);
    assert_eq!(live(&scenario), (1, 2));
    scenario.exec(14);
    assert_eq!(live(&scenario), (1, 1));
    assert_eq!(ended(&mut scenario), []);
}

#[test]
fn a_master_without_a_dirty_pool_has_no_counts_of_one() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    assert_eq!(scenario.app().dirty, None);
}

#[test]
fn exits_of_dirty_workers_have_the_reasons_of_workers() {
    type Signals = &'static [(Pid, u8, Pid)];
    use ExitStatus::{Code, Signal};
    let cases: [(Signals, ExitStatus, ExitReason); 9] = [
        (&[], Signal(11), ExitReason::Crash),
        (&[(13, 9, 99)], Signal(9), ExitReason::Crash),
        (&[(13, 6, 12), (13, 9, 12)], Signal(9), ExitReason::Timeout),
        (&[(13, 15, 99)], Code(0), ExitReason::Quit),
        (&[(12, 1, 10), (13, 15, 12)], Code(0), ExitReason::Reload),
        (&[(12, 22, 99), (13, 15, 12)], Code(0), ExitReason::Ttou),
        (&[(12, 15, 10), (13, 15, 12)], Code(0), ExitReason::Shutdown),
        (&[(13, 15, 12)], Code(0), ExitReason::WorkerRemove),
        (&[], Code(3), ExitReason::BootError),
    ];
    for (signals, status, reason) in cases {
        let mut scenario = pool();
        for &(pid, number, sender) in signals {
            signal(&mut scenario, pid, number, sender);
        }
        exit(&mut scenario, 13, status);
        let expected = ("DirtyWorker".to_owned(), Some(13), reason);
        assert_eq!(ended(&mut scenario), [expected], "{signals:?} {status:?}");
        assert_eq!(live(&scenario), (1, 0));
        let app = scenario.app();
        let ends = app.dirty.unwrap().ends;
        assert_eq!(ends[&("worker", reason.as_str())], 1);
        assert_eq!(ends.values().sum::<u64>(), 1);
        assert_eq!(ends.len(), 2 * ExitReason::ALL.len());
        assert_eq!(app.ends.values().sum::<u64>(), 0, "no worker exited");
    }
}

#[test]
fn a_dirty_arbiter_exits_by_itself_or_with_its_master() {
    let mut scenario = pool();
    signal(&mut scenario, 12, 9, 99);
    exit(&mut scenario, 12, ExitStatus::Signal(9));
    // Its worker stays until somebody ends it.
    assert_eq!(live(&scenario), (0, 1));
    signal(&mut scenario, 13, 15, 99);
    exit(&mut scenario, 13, ExitStatus::Code(0));
    let of = |class: &str, pid, reason| (class.to_owned(), Some(pid), reason);
    let expected = [
        of("DirtyArbiter", 12, ExitReason::Crash),
        of("DirtyWorker", 13, ExitReason::Quit),
    ];
    assert_eq!(ended(&mut scenario), expected);
    assert_eq!(live(&scenario), (0, 0));

    let mut scenario = pool();
    exit(&mut scenario, 10, ExitStatus::Signal(9));
    scenario.effects();
    signal(&mut scenario, 13, 15, 12);
    exit(&mut scenario, 13, ExitStatus::Code(0));
    exit(&mut scenario, 12, ExitStatus::Code(0));
    let expected = [
        of("DirtyWorker", 13, ExitReason::Shutdown),
        of("DirtyArbiter", 12, ExitReason::Shutdown),
    ];
    assert_eq!(ended(&mut scenario), expected);

    let mut scenario = pool();
    signal(&mut scenario, 10, 15, 99);
    signal(&mut scenario, 12, 15, 10);
    exit(&mut scenario, 12, ExitStatus::Code(0));
    let expected = [of("DirtyArbiter", 12, ExitReason::Shutdown)];
    assert_eq!(ended(&mut scenario), expected);
}

#[test]
fn an_oom_kill_of_a_dirty_worker_is_one() {
    let mut scenario = pool();
    let time_ns = scenario.now_ns;
    scenario.event(Event::Oom { time_ns, pid: 13 });
    exit(&mut scenario, 13, ExitStatus::Signal(9));
    let expected = ("DirtyWorker".to_owned(), Some(13), ExitReason::Oom);
    assert_eq!(ended(&mut scenario), [expected]);
}

#[test]
fn a_late_fact_about_a_dirty_worker_that_exited_changes_nothing() {
    let mut scenario = pool();
    exit(&mut scenario, 13, ExitStatus::Code(0));
    found(&mut scenario, 13, DirtyRole::Worker, 12);
    assert_eq!(live(&scenario), (1, 0));
}

#[test]
fn a_forgotten_master_leaves_no_dirty_pool() {
    let mut scenario = pool();
    exit(&mut scenario, 11, ExitStatus::Code(0));
    exit(&mut scenario, 10, ExitStatus::Code(0));
    scenario.later(1000);
    assert!(scenario.metrics_view().apps.is_empty());
    assert!(scenario.state.dirty.is_empty());
}
