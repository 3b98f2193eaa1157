use super::*;

const MASTER: Pid = 10;
const OTHER: Pid = 99;

fn sent(time_ns: u64, signal: u8, sender: Pid) -> Sent {
    Sent {
        time_ns,
        signal,
        sender: (sender != 0).then_some(sender),
        by_thread: false,
    }
}

/// A worker that has run, seen from its start, of a master without limits.
struct Case {
    state: WorkerState,
    status: ExitStatus,
    asked: Vec<Sent>,
    max_requests: Option<u64>,
    served: u64,
    is_all: bool,
    is_halting: bool,
    master_ended: bool,
    takes_commands: bool,
}

impl Case {
    fn new(status: ExitStatus) -> Self {
        let state = WorkerState {
            booted: Some(true),
            ..WorkerState::default()
        };
        Self {
            state,
            status,
            asked: Vec::new(),
            max_requests: Some(0),
            served: 0,
            is_all: true,
            is_halting: false,
            master_ended: false,
            takes_commands: false,
        }
    }

    fn exited(code: u8) -> Self {
        Self::new(ExitStatus::Code(code))
    }

    fn got(mut self, time_ns: u64, signal: u8, sender: Pid) -> Self {
        self.state.signal(sent(time_ns, signal, sender));
        self
    }

    fn asked(mut self, time_ns: u64, signal: u8) -> Self {
        self.asked.push(sent(time_ns, signal, OTHER));
        self
    }

    fn end(&self) -> (ExitReason, ExitKind) {
        of(&Evidence {
            state: &self.state,
            status: Some(self.status),
            ended_ns: 1_000,
            master: MASTER,
            asked: &self.asked,
            is_halting: self.is_halting,
            master_ended: self.master_ended,
            takes_commands: self.takes_commands,
            max_requests: self.max_requests,
            served: self.served,
            is_all: self.is_all,
        })
    }
}

#[test]
fn a_signal_of_the_master_has_the_reason_of_the_last_signal_to_the_master() {
    let case = |signal| {
        Case::exited(0)
            .asked(100, signal)
            .got(200, signal::TERM, MASTER)
    };
    assert_eq!(
        case(signal::HUP).end(),
        (ExitReason::Reload, ExitKind::Graceful)
    );
    assert_eq!(
        case(signal::TTOU).end(),
        (ExitReason::Ttou, ExitKind::Graceful)
    );
    for stop in [signal::TERM, signal::INT, signal::QUIT, signal::WINCH] {
        assert_eq!(case(stop).end(), (ExitReason::Shutdown, ExitKind::Graceful));
    }
    // The signal to the master was not seen, came later, or asked for something else.
    let unasked = Case::exited(0).got(200, signal::TERM, MASTER);
    assert_eq!(unasked.end().0, ExitReason::Unknown);
    let later = unasked.asked(300, signal::HUP).asked(301, 10);
    assert_eq!(later.end().0, ExitReason::Unknown);
    let both = case(signal::HUP).asked(150, signal::TTOU);
    assert_eq!(both.end().0, ExitReason::Ttou);
}

#[test]
fn an_old_reload_explains_nothing_and_a_command_what_no_signal_explains() {
    let long_after = 200 + ANSWER_NS;
    let old = |signal| {
        Case::exited(0)
            .asked(100, signal)
            .got(long_after, signal::TERM, MASTER)
    };
    for signal in [signal::HUP, signal::TTOU] {
        let mut case = old(signal);
        assert_eq!(case.end().0, ExitReason::Unknown);
        case.takes_commands = true;
        assert_eq!(case.end(), (ExitReason::WorkerRemove, ExitKind::Graceful));
        for sent in &mut case.state.signals {
            sent.by_thread = true;
        }
        assert_eq!(case.end(), (ExitReason::WorkerKill, ExitKind::Graceful));
    }
    // A master that stops may take long.
    let mut stops = old(signal::TERM);
    stops.takes_commands = true;
    assert_eq!(stops.end().0, ExitReason::Shutdown);
}

#[test]
fn a_halting_master_stops_its_workers() {
    let mut case = Case::exited(0).got(200, signal::TERM, MASTER);
    case.is_halting = true;
    assert_eq!(case.end(), (ExitReason::Shutdown, ExitKind::Graceful));
}

#[test]
fn a_killed_worker_was_forced() {
    let killed = Case::new(ExitStatus::Signal(signal::KILL))
        .asked(100, signal::HUP)
        .got(200, signal::TERM, MASTER)
        .got(300, signal::KILL, MASTER);
    assert_eq!(killed.end(), (ExitReason::Reload, ExitKind::Forced));
    let quick = Case::exited(0)
        .asked(100, signal::QUIT)
        .got(200, signal::QUIT, MASTER);
    assert_eq!(quick.end(), (ExitReason::Shutdown, ExitKind::Forced));
}

#[test]
fn a_worker_that_dies_of_a_second_sigterm_was_graceful() {
    let twice = Case::new(ExitStatus::Signal(signal::TERM))
        .asked(100, signal::HUP)
        .got(200, signal::TERM, MASTER)
        .got(210, signal::TERM, MASTER);
    assert_eq!(twice.end(), (ExitReason::Reload, ExitKind::Graceful));
}

#[test]
fn only_a_sigabrt_of_its_master_is_a_timeout() {
    let timeout = Case::exited(1).got(200, signal::ABRT, MASTER);
    assert_eq!(timeout.end(), (ExitReason::Timeout, ExitKind::Forced));
    let murdered = Case::new(ExitStatus::Signal(signal::KILL))
        .asked(100, signal::HUP)
        .got(150, signal::TERM, MASTER)
        .got(200, signal::ABRT, MASTER)
        .got(300, signal::KILL, MASTER);
    assert_eq!(murdered.end(), (ExitReason::Timeout, ExitKind::Forced));
    let by_hand = Case::exited(1).got(200, signal::ABRT, OTHER);
    assert_eq!(by_hand.end(), (ExitReason::Crash, ExitKind::Forced));
}

#[test]
fn a_kill_is_out_of_memory_only_after_a_report_of_the_kernel() {
    let mut case = Case::new(ExitStatus::Signal(signal::KILL)).got(200, signal::KILL, 0);
    assert_eq!(case.end(), (ExitReason::Crash, ExitKind::Forced));
    case.state.oom = true;
    assert_eq!(case.end(), (ExitReason::Oom, ExitKind::Forced));
    let by_hand = Case::new(ExitStatus::Signal(signal::KILL)).got(200, signal::KILL, OTHER);
    assert_eq!(by_hand.end().0, ExitReason::Crash);
    let fault = Case::new(ExitStatus::Signal(11)).got(200, 11, 0);
    assert_eq!(fault.end().0, ExitReason::Crash);
}

#[test]
fn a_worker_stopped_by_another_process_quit_unless_its_master_stops_too() {
    let quit = Case::exited(0).got(200, signal::QUIT, OTHER);
    assert_eq!(quit.end(), (ExitReason::Quit, ExitKind::Forced));
    let gently = Case::exited(0).got(200, signal::TERM, OTHER);
    assert_eq!(gently.end(), (ExitReason::Quit, ExitKind::Graceful));
    let group = Case::exited(0)
        .got(200, signal::INT, 0)
        .asked(201, signal::INT);
    assert_eq!(group.end().0, ExitReason::Shutdown);
    let reloaded_before = Case::exited(0)
        .asked(100, signal::HUP)
        .got(200, signal::TERM, OTHER);
    assert_eq!(reloaded_before.end().0, ExitReason::Quit);
    let itself = Case::new(ExitStatus::Signal(signal::TERM)).got(200, signal::TERM, 55);
    assert_eq!(itself.end(), (ExitReason::Quit, ExitKind::Forced));
}

#[test]
fn a_boot_error_happens_only_before_the_worker_has_run() {
    for code in BOOT_ERRORS {
        let mut case = Case::exited(code);
        assert_eq!(case.end(), (ExitReason::Crash, ExitKind::Forced));
        case.state.booted = None;
        assert_eq!(case.end(), (ExitReason::BootError, ExitKind::Forced));
        case.state.booted = Some(false);
        assert_eq!(case.end().0, ExitReason::BootError);
        case.state.in_flight.count = 1;
        assert_eq!(case.end().0, ExitReason::Crash);
    }
    let mut other = Case::exited(1);
    other.state.booted = Some(false);
    assert_eq!(other.end().0, ExitReason::Crash);
}

#[test]
fn an_unasked_clean_exit_is_max_requests_if_that_number_was_reached() {
    let mut case = Case::exited(0);
    assert_eq!(case.end(), (ExitReason::Unknown, ExitKind::Graceful));
    case.max_requests = Some(100);
    case.served = 99;
    assert_eq!(case.end().0, ExitReason::Unknown);
    case.served = 100;
    assert_eq!(case.end(), (ExitReason::MaxRequests, ExitKind::Graceful));
    (case.served, case.is_all) = (5, false);
    assert_eq!(case.end().0, ExitReason::MaxRequests);
    case.max_requests = None;
    assert_eq!(case.end().0, ExitReason::Unknown);
    case.master_ended = true;
    assert_eq!(case.end().0, ExitReason::Shutdown);
}

#[test]
fn an_unseen_exit_is_unknown() {
    let case = Case::exited(0);
    let unseen = Evidence {
        state: &case.state,
        status: None,
        ended_ns: 1,
        master: MASTER,
        asked: &[],
        is_halting: false,
        master_ended: false,
        takes_commands: true,
        max_requests: Some(1),
        served: 1,
        is_all: true,
    };
    assert_eq!(of(&unseen), (ExitReason::Unknown, ExitKind::Forced));
}
