//! The table of features and their eBPF programs.
//!
//! A row says what a program hooks, when it is attached and which feature it belongs to. Loading,
//! attaching, statistics, `doctor` and the benchmarks read this table. A program that the kernel
//! rejects disables its own feature and no other.

use crate::options::Probes;
use probe_ebpf::abi::{IoTail, PythonTail, SocketTail, Tail};

/// Something that the observer measures, and the eBPF programs it takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// Consequence of its absence.
    pub without: &'static str,
    pub attached: When,
    /// Whether it is loaded after readiness: it is rarely used, and the verifier takes long for it.
    pub is_late: bool,
    /// The backends that have it.
    pub backends: &'static [Backend],
    /// All of them, or the feature is absent.
    pub programs: &'static [Program],
}

/// What the programs see of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Reads and writes of sockets, by tracepoints of the sockets themselves (about Linux 6.3).
    Taps,
    /// System calls.
    Syscalls,
    /// Nothing: requests are seen where Python begins and ends them.
    EntryExit,
}

impl Backend {
    /// The best one for these probes on a kernel, which perhaps has the tracepoints
    /// `sock_recv_length` and `sock_send_length`.
    #[must_use]
    pub fn best(probes: Probes, has_socket_tracepoints: bool) -> Self {
        match (probes, has_socket_tracepoints) {
            (Probes::EntryExit, _) => Self::EntryExit,
            (Probes::Full, true) => Self::Taps,
            (Probes::Full, false) | (Probes::SystemCalls, _) => Self::Syscalls,
        }
    }
}

/// A program on a system call, which is named after its tracepoint.
macro_rules! syscall {
    ($name:literal) => {
        syscall!($name, concat!("sys_", $name))
    };
    ($name:literal, $tracepoint:expr) => {
        Program {
            name: $name,
            hook: Hook::Syscall {
                tracepoint: $tracepoint,
                backup: concat!($name, "_backup"),
            },
        }
    };
}

/// The feature of connections that report reads and writes.
pub const SOCKET_IO: &str = "socket I/O";
/// The feature of connections that report that they are accepted and closed.
pub const ACCEPTS: &str = "accepted sockets";

/// Programs where Python begins, ends and fails a request.
const REQUESTS: [Program; 8] = [
    python("datetime_now", PythonHook::DatetimeNow),
    python_tail("code_learned", PythonTail::LearnCode),
    python_tail("class_learned", PythonTail::LearnClass),
    python_tail("head_measured", PythonTail::MeasureHead),
    python_tail("request_ended", PythonTail::EndCarefully),
    python_tail("request_done", PythonTail::End),
    python_tail("request_failed", PythonTail::Fail),
    python_tail("failure_noted", PythonTail::Failed),
];
/// The same, and the one that finds the connection where nothing reports it.
const REQUESTS_WITHOUT_SOCKETS: [Program; 9] = {
    let blind = python_tail("entered_blind", PythonTail::EnterBlind);
    let [a, b, c, d, e, f, g, h] = REQUESTS;
    [a, b, c, d, e, f, g, h, blind]
};
/// Programs on system calls that accept and close.
const CONNECTIONS: &[Program] = &[
    syscall!("exit_accept4"),
    syscall!("enter_close"),
    tail("connection_closes", Tail::ConnectionCloses),
];
/// On those that read.
const REQUEST_HEADS: &[Program] = &[
    syscall!("exit_recvfrom"),
    syscall!("enter_recvfrom"),
    tail("request_read", Tail::RequestRead),
];
/// On those that write.
const RESPONSES: &[Program] = &[
    syscall!("exit_sendto"),
    syscall!("enter_sendto"),
    tail("response_begins", Tail::ResponseBegins),
];
const SENDFILE: &[Program] = &[
    syscall!("exit_sendfile", "sys_exit_sendfile64"),
    syscall!("enter_sendfile", "sys_enter_sendfile64"),
];

/// Single backends.
const TAPS: &[Backend] = &[Backend::Taps];
const SYSCALLS: &[Backend] = &[Backend::Syscalls];
/// Every backend.
const ALL: &[Backend] = &[Backend::Taps, Backend::Syscalls, Backend::EntryExit];
const ENTRY_EXIT: &[Backend] = &[Backend::EntryExit];
/// Those that see sockets.
const SOCKETS: &[Backend] = &[Backend::Taps, Backend::Syscalls];

/// When the programs of a feature are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always; nothing can be observed without.
    Required,
    /// Always.
    Always,
    /// To every interpreter of an observed process.
    Interpreter,
    /// To an interpreter, during a deep capture of one of its masters.
    DeepCapture,
    /// To the interpreter of a process whose tasks serve requests: loaded with the first.
    Tasks,
    /// While a process is observed that has one of these needs.
    Needed(&'static [Need]),
    /// With `--gil`. Every process makes these system calls, in great numbers.
    Gil,
}

/// What some processes need, and the others should not pay for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// The requests of a process that the bytes of its sockets show: by system calls, where sockets do not
    /// report them. Every process makes some of them, for anything.
    SocketLevel,
    /// Its connections, where sockets do not report that they are accepted and closed.
    Accepts,
    /// System calls on connections to a Unix socket.
    UnixListeners,
}

/// An eBPF program.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the object.
    pub name: &'static str,
    pub hook: Hook,
}

/// What runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A raw tracepoint.
    RawTracepoint(&'static str),
    /// A tracepoint of the category `syscalls`.
    Syscall {
        tracepoint: &'static str,
        /// The program that does the same where the kernel skips the first: see [`super::load`].
        backup: &'static str,
    },
    /// A point in the socket code of the kernel, for the processes of every control group.
    ControlGroup(AttachPoint),
    /// A function of CPython.
    Python(PythonHook),
    /// Programs on system calls continue with it.
    Tail(Tail),
    /// The programs on functions of Python continue with it.
    PythonTail(PythonTail),
    /// The program on closed sockets continues with it.
    SocketTail(SocketTail),
    /// The programs on reads and writes of sockets continue with it.
    IoTail(IoTail),
    /// The program on `signal_deliver` and this one itself continue with it.
    StackTail,
}

/// Where the kernel runs programs of control groups. Their programs could change what happens there;
/// those of this project only look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachPoint {
    /// The name of an IPv4 peer is asked for: by `accept4` too, for a new connection.
    PeerName4,
    /// The name of an IPv6 peer is asked for.
    PeerName6,
    /// An IPv4 or IPv6 socket is released.
    SocketRelease,
}

/// A function of CPython that a program hooks, in the order of detaching: the start of a garbage
/// collection comes before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PythonHook {
    /// `datetime.now`: Gunicorn calls it when a request begins, ends or fails.
    DatetimeNow,
    /// `sys.exc_info` and `sys.exception`: frameworks call them for the handled exception.
    ExceptionAsked,
    /// The getter of `BaseException.__traceback__`: Uvicorn calls it when it logs an exception.
    TracebackRead,
    /// `_asyncio.Task.__init__`: servers on asyncio make a task for each request.
    TaskCreated,
    /// `PyTraceBack_Here`: called for each frame that an exception leaves.
    TracebackHere,
    /// Start of a garbage collection.
    GcBegins,
    /// End of a garbage collection.
    GcEnds,
}

const fn raw(name: &'static str, tracepoint: &'static str) -> Program {
    let hook = Hook::RawTracepoint(tracepoint);
    Program { name, hook }
}

const fn python(name: &'static str, hook: PythonHook) -> Program {
    let hook = Hook::Python(hook);
    Program { name, hook }
}

const fn control_group(name: &'static str, point: AttachPoint) -> Program {
    let hook = Hook::ControlGroup(point);
    Program { name, hook }
}

const fn python_tail(name: &'static str, tail: PythonTail) -> Program {
    let hook = Hook::PythonTail(tail);
    Program { name, hook }
}

const fn io_tail(name: &'static str, tail: IoTail) -> Program {
    let hook = Hook::IoTail(tail);
    Program { name, hook }
}

const fn tail(name: &'static str, tail: Tail) -> Program {
    let hook = Hook::Tail(tail);
    Program { name, hook }
}

/// All features of all backends. The end of a call comes before its start, which is the order of
/// attaching: a call that is seen to begin is also seen to end. Late features are loaded in this order.
pub static FEATURES: &[Feature] = &[
    Feature {
        name: "processes",
        without: "`run` cannot work: workers are not followed",
        attached: When::Required,
        is_late: false,
        backends: ALL,
        programs: &[
            raw("process_fork", "sched_process_fork"),
            raw("process_exec", "sched_process_exec"),
            raw("process_exit", "sched_process_exit"),
        ],
    },
    Feature {
        name: "requests",
        without: "requests are seen at their sockets only, as at the observation level `socket`",
        attached: When::Interpreter,
        is_late: false,
        backends: SOCKETS,
        programs: &REQUESTS,
    },
    Feature {
        name: "requests",
        without: "no request is observed",
        attached: When::Interpreter,
        is_late: false,
        backends: ENTRY_EXIT,
        programs: &REQUESTS_WITHOUT_SOCKETS,
    },
    Feature {
        name: SOCKET_IO,
        without: "requests have no status, no size and no times outside of the application",
        attached: When::Always,
        is_late: false,
        backends: TAPS,
        programs: &[
            raw("socket_read", "sock_recv_length"),
            raw("socket_written", "sock_send_length"),
        ],
    },
    Feature {
        name: "requests by sockets",
        without: "requests of workers whose Python is not read, and of those on event loops, are not counted",
        attached: When::Needed(&[Need::SocketLevel]),
        is_late: false,
        backends: TAPS,
        programs: &[
            io_tail("wire_read", IoTail::Read),
            io_tail("wire_written", IoTail::Written),
            io_tail("wire_begins", IoTail::ResponseBegins),
        ],
    },
    Feature {
        name: ACCEPTS,
        without: "requests have no phase `dispatch`: their phase `queue` ends with the first read. A request that nothing answers ends when its connection is used again",
        attached: When::Always,
        is_late: false,
        backends: TAPS,
        programs: &[
            control_group("connection_accepted4", AttachPoint::PeerName4),
            control_group("connection_accepted6", AttachPoint::PeerName6),
            control_group("connection_closed", AttachPoint::SocketRelease),
        ],
    },
    Feature {
        name: "connections",
        without: "requests on Unix sockets and of workers whose Python is not read have no times before the application, and some have no end",
        attached: When::Needed(&[Need::Accepts, Need::UnixListeners]),
        is_late: false,
        backends: TAPS,
        programs: CONNECTIONS,
    },
    Feature {
        name: "connections",
        without: "requests have no route, no status and no times before the application",
        attached: When::Always,
        is_late: false,
        backends: SYSCALLS,
        programs: CONNECTIONS,
    },
    Feature {
        name: "request heads",
        without: "requests have no size and no times before the application",
        attached: When::Always,
        is_late: false,
        backends: SYSCALLS,
        programs: REQUEST_HEADS,
    },
    Feature {
        name: "responses",
        without: "requests have no status, and responses no size",
        attached: When::Always,
        is_late: false,
        backends: SYSCALLS,
        programs: RESPONSES,
    },
    Feature {
        name: "sendfile",
        without: "response sizes lack the bytes sent by `sendfile`",
        attached: When::Always,
        is_late: false,
        backends: SYSCALLS,
        programs: SENDFILE,
    },
    Feature {
        name: "uvloop and asyncio",
        without: "requests of workers on uvloop are not counted, and long responses of workers on asyncio have no end",
        attached: When::Needed(&[Need::SocketLevel]),
        is_late: false,
        backends: SYSCALLS,
        programs: &[
            syscall!("exit_accept"),
            syscall!("exit_sendmsg"),
            syscall!("enter_sendmsg"),
            syscall!("exit_read"),
            syscall!("enter_read"),
            syscall!("exit_write"),
            syscall!("enter_write"),
            syscall!("exit_writev"),
            syscall!("enter_writev"),
        ],
    },
    Feature {
        name: "Unix socket queue wait",
        without: "requests on Unix sockets have no phase `queue`",
        attached: When::Needed(&[Need::UnixListeners]),
        is_late: false,
        backends: SOCKETS,
        programs: &[syscall!("exit_connect"), syscall!("enter_connect")],
    },
    Feature {
        name: "signals",
        without: "signals are not counted, and the exit reason of a worker that a signal ended is a guess or `unknown`",
        attached: When::Always,
        is_late: false,
        backends: ALL,
        programs: &[raw("signal_generated", "signal_generate")],
    },
    Feature {
        name: "OOM kills",
        without: "a worker that the OOM killer ended has the exit reason `crash`",
        attached: When::Always,
        is_late: false,
        backends: ALL,
        programs: &[raw("oom_victim", "mark_victim")],
    },
    Feature {
        name: "exceptions that end requests",
        without: "class and function of a 5xx that Gunicorn answered are `unknown`",
        attached: When::Always,
        is_late: true,
        backends: ALL,
        programs: &[python_tail("exception_sent", PythonTail::SendException)],
    },
    Feature {
        name: "exceptions without an answer",
        without: "class and function of a request that nothing answered are `unknown`",
        attached: When::Always,
        is_late: true,
        backends: TAPS,
        programs: &[Program {
            name: "unanswered_closed",
            hook: Hook::SocketTail(SocketTail::Unanswered),
        }],
    },
    Feature {
        name: "exceptions",
        without: "class and function of a 5xx that the framework answered are `unknown` more often",
        attached: When::Interpreter,
        is_late: true,
        backends: ALL,
        programs: &[
            python("exception_asked", PythonHook::ExceptionAsked),
            python_tail("boot_failed", PythonTail::FailBoot),
        ],
    },
    Feature {
        name: "tasks",
        without: "requests of workers on asyncio are seen at their sockets only, as at the observation level `socket`",
        attached: When::Tasks,
        is_late: false,
        backends: SOCKETS,
        programs: &[
            python("task_created", PythonHook::TaskCreated),
            python_tail("coroutine_learned", PythonTail::LearnCoroutine),
            python_tail("server_learned", PythonTail::LearnServer),
        ],
    },
    Feature {
        name: "exceptions of tasks",
        without: "class and function of a 5xx of a worker on asyncio are `unknown` more often",
        attached: When::Tasks,
        is_late: false,
        backends: TAPS,
        programs: &[
            python("traceback_read", PythonHook::TracebackRead),
            io_tail("response_failed", IoTail::ResponseFails),
        ],
    },
    Feature {
        name: "exceptions of tasks",
        without: "class and function of a 5xx of a worker on asyncio are `unknown` more often",
        attached: When::Tasks,
        is_late: false,
        backends: SYSCALLS,
        programs: &[
            python("traceback_read", PythonHook::TracebackRead),
            tail("response_fails", Tail::ResponseFails),
        ],
    },
    Feature {
        name: "stacks at timeouts",
        without: "the function in which a worker was stuck at a WORKER TIMEOUT is unknown",
        attached: When::Always,
        is_late: true,
        backends: ALL,
        programs: &[
            raw("signal_delivered", "signal_deliver"),
            Program {
                name: "stack_of_thread",
                hook: Hook::StackTail,
            },
        ],
    },
    Feature {
        name: "deep capture",
        without: "exceptions that a framework swallows are reported as `unknown`",
        attached: When::DeepCapture,
        is_late: true,
        backends: ALL,
        programs: &[python("deep_capture", PythonHook::TracebackHere)],
    },
    Feature {
        name: "GC pauses",
        without: "garbage-collection pauses are not measured",
        attached: When::Interpreter,
        is_late: false,
        backends: ALL,
        programs: &[
            python("gc_begins", PythonHook::GcBegins),
            python("gc_ends", PythonHook::GcEnds),
        ],
    },
    Feature {
        name: "GIL waits",
        without: "`--gil` measures nothing",
        attached: When::Gil,
        is_late: false,
        backends: ALL,
        programs: &[syscall!("exit_futex"), syscall!("enter_futex")],
    },
];

/// The features of a backend, in the order of the table.
#[must_use]
pub fn chosen(backend: Backend) -> Vec<&'static Feature> {
    let features = FEATURES.iter();
    let chosen = features.filter(|feature| feature.backends.contains(&backend));
    chosen.collect()
}

/// Every program of these features, with its feature.
pub fn programs_of(
    features: impl IntoIterator<Item = &'static Feature>,
) -> impl Iterator<Item = (&'static Feature, &'static Program)> {
    let features = features.into_iter();
    features.flat_map(|feature| feature.programs.iter().map(move |it| (feature, it)))
}

/// Every program of every backend, with its feature.
pub fn programs() -> impl Iterator<Item = (&'static Feature, &'static Program)> {
    programs_of(FEATURES)
}

/// The program on a function of CPython, with its feature.
#[must_use]
pub fn of_hook(hook: PythonHook) -> Option<(&'static Feature, &'static Program)> {
    programs().find(|(_, program)| program.hook == Hook::Python(hook))
}

impl Program {
    /// The name of its backup, if its hook needs one.
    #[must_use]
    pub fn backup(&self) -> Option<&'static str> {
        match self.hook {
            Hook::Syscall { backup, .. } => Some(backup),
            _ => None,
        }
    }

    /// Whether it is attached to a hook of its own, and not reached by a tail call.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        !matches!(
            self.hook,
            Hook::Tail(_)
                | Hook::PythonTail(_)
                | Hook::SocketTail(_)
                | Hook::IoTail(_)
                | Hook::StackTail
        )
    }
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
