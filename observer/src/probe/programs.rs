//! The programs: what each is attached to, and when.

/// Programs on raw tracepoints: (program, tracepoint).
pub const RAW_TRACEPOINTS: &[(&str, &str)] = &[
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
    ("socket_established", "inet_sock_set_state"),
    ("signal_generated", "signal_generate"),
    ("signal_delivered", "signal_deliver"),
    ("oom_victim", "mark_victim"),
];

/// The program on a raw tracepoint that goes on with itself.
pub const STACK_TAIL: &str = "stack_of_thread";

/// A program on a system call.
pub struct Call {
    pub program: &'static str,
    /// The one that does the same where the kernel skipped the first: see [`SKIPS`].
    pub again: &'static str,
    pub tracepoint: &'static str,
}

/// Kernels that have this function run programs on system calls while threads may be preempted, and
/// skip a program for all but the first that run it on one CPU (Linux 7.2,
/// `kernel/trace/bpf_trace.c`). There a second program is attached behind each.
pub const SKIPS: &str = "trace_call_bpf_faultable";

macro_rules! call {
    ($program:literal, $tracepoint:literal) => {
        Call {
            program: $program,
            again: concat!($program, "_again"),
            tracepoint: $tracepoint,
        }
    };
}

/// The first of two programs, by the name of the second.
#[must_use]
pub fn first_of(again: &str) -> Option<&str> {
    again.strip_suffix("_again")
}

/// Programs on system calls. A call's end is attached
/// before its beginning, so that none is seen to begin and never to end.
pub const SYSCALLS: &[Call] = &[
    call!("exit_accept4", "sys_exit_accept4"),
    call!("exit_recvfrom", "sys_exit_recvfrom"),
    call!("enter_recvfrom", "sys_enter_recvfrom"),
    call!("exit_sendto", "sys_exit_sendto"),
    call!("enter_sendto", "sys_enter_sendto"),
    call!("exit_sendfile", "sys_exit_sendfile64"),
    call!("enter_sendfile", "sys_enter_sendfile64"),
    call!("enter_close", "sys_enter_close"),
    call!("exit_connect", "sys_exit_connect"),
    call!("enter_connect", "sys_enter_connect"),
];

/// Programs on system calls that Gunicorn's own request handling does not make, and
/// processes may make for anything: attached only while a process is observed that
/// may use them for its connections. Each takes time when it is detached, too.
pub const PLAIN_CALLS: &[Call] = &[
    call!("exit_accept", "sys_exit_accept"),
    call!("exit_sendmsg", "sys_exit_sendmsg"),
    call!("enter_sendmsg", "sys_enter_sendmsg"),
    call!("exit_read", "sys_exit_read"),
    call!("enter_read", "sys_enter_read"),
    call!("exit_write", "sys_exit_write"),
    call!("enter_write", "sys_enter_write"),
    call!("exit_writev", "sys_exit_writev"),
    call!("enter_writev", "sys_enter_writev"),
];

/// Programs on waits for the GIL, which is asked for: every process makes these calls, and in
/// great numbers. The end first, likewise.
pub const GIL_CALLS: &[Call] = &[
    call!("exit_futex", "sys_exit_futex"),
    call!("enter_futex", "sys_enter_futex"),
];

/// A program on functions of interpreters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Uprobe {
    /// On `datetime.now`: a request begins, ends or fails.
    Request,
    /// On `sys.exc_info` and `sys.exception`: someone asks for the exception being handled.
    Asked,
    /// On `PyTraceBack_Here`: an exception goes up out of a frame.
    CapturedFrame,
    /// Where the garbage collector begins.
    CollectionBegins,
    /// Where it ends.
    CollectionEnds,
}

impl Uprobe {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Request,
        Self::Asked,
        Self::CapturedFrame,
        Self::CollectionBegins,
        Self::CollectionEnds,
    ];

    /// The program's name.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Request => "datetime_now",
            Self::Asked => "exception_asked",
            Self::CapturedFrame => "exception_unwound",
            Self::CollectionBegins => "collection_begins",
            Self::CollectionEnds => "collection_ends",
        }
    }
}

/// When a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// To interpreters that are observed.
    Interpreters(Uprobe),
    /// While a process is observed that needs it.
    Needed,
    /// If waits for the GIL are asked for.
    Gil,
}

/// Every program that is attached, and when.
pub fn all() -> impl Iterator<Item = (&'static str, When)> {
    let raw = RAW_TRACEPOINTS.iter();
    raw.map(|&(program, _)| (program, When::Always))
        .chain(calls().map(|(call, when)| (call.program, when)))
        .chain(Uprobe::ALL.map(|uprobe| (uprobe.program(), When::Interpreters(uprobe))))
}

/// Those that are attached besides where the kernel skips programs.
pub fn second() -> impl Iterator<Item = (&'static str, When)> {
    calls().map(|(call, when)| (call.again, when))
}

fn calls() -> impl Iterator<Item = (&'static Call, When)> {
    let with = |calls: &'static [Call], when| calls.iter().map(move |call| (call, when));
    with(SYSCALLS, When::Always)
        .chain(with(PLAIN_CALLS, When::Needed))
        .chain(with(GIL_CALLS, When::Gil))
}
