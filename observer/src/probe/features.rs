//! The table of features and their eBPF programs.
//!
//! A row says what a program hooks, when it is attached and which feature it belongs to. Loading,
//! attaching, statistics, `doctor` and the benchmarks read this table. A program that the kernel
//! rejects disables its own feature and no other.

use probe_ebpf::abi::Tail;

/// Something that the observer measures, and the eBPF programs it takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// Consequence of its absence.
    pub without: &'static str,
    pub attached: When,
    /// All of them, or the feature is absent.
    pub programs: &'static [Program],
}

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
    /// While a process is observed that may use these system calls for its connections. Every process
    /// makes them, for anything.
    GenericIo,
    /// With `--gil`. Every process makes these system calls, in great numbers.
    Gil,
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
    /// A function of CPython.
    Python(PythonHook),
    /// Programs on system calls continue with it.
    Tail(Tail),
    /// The program on `signal_deliver` and this one itself continue with it.
    StackTail,
}

/// A function of CPython that a program hooks, in the order of detaching: the start of a garbage
/// collection comes before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PythonHook {
    /// `datetime.now`: Gunicorn calls it when a request begins, ends or fails.
    DatetimeNow,
    /// `sys.exc_info` and `sys.exception`: frameworks call them for the handled exception.
    ExceptionAsked,
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

const fn tail(name: &'static str, tail: Tail) -> Program {
    let hook = Hook::Tail(tail);
    Program { name, hook }
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

/// All features. The end of a call comes before its start, which is the order of attaching: a call
/// that is seen to begin is also seen to end.
pub const FEATURES: &[Feature] = &[
    Feature {
        name: "processes",
        without: "`run` cannot work: workers are not followed",
        attached: When::Required,
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
        programs: &[python("datetime_now", PythonHook::DatetimeNow)],
    },
    Feature {
        name: "connections",
        without: "requests have no route, no status and no times before the application",
        attached: When::Always,
        programs: &[
            syscall!("exit_accept4"),
            syscall!("enter_close"),
            tail("connection_closes", Tail::ConnectionCloses),
        ],
    },
    Feature {
        name: "request heads",
        without: "requests have no route, method and size",
        attached: When::Always,
        programs: &[
            syscall!("exit_recvfrom"),
            syscall!("enter_recvfrom"),
            tail("request_read", Tail::RequestRead),
        ],
    },
    Feature {
        name: "responses",
        without: "requests have no status, and responses no size",
        attached: When::Always,
        programs: &[
            syscall!("exit_sendto"),
            syscall!("enter_sendto"),
            tail("response_begins", Tail::ResponseBegins),
        ],
    },
    Feature {
        name: "sendfile",
        without: "response sizes lack the bytes sent by `sendfile`",
        attached: When::Always,
        programs: &[
            syscall!("exit_sendfile", "sys_exit_sendfile64"),
            syscall!("enter_sendfile", "sys_enter_sendfile64"),
        ],
    },
    Feature {
        name: "uvloop and asyncio",
        without: "requests of workers on uvloop are not counted, and long responses of workers on asyncio have no end",
        attached: When::GenericIo,
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
        name: "TCP queue wait",
        without: "requests on TCP have no phase `queue`",
        attached: When::Always,
        programs: &[raw("socket_established", "inet_sock_set_state")],
    },
    Feature {
        name: "Unix socket queue wait",
        without: "requests on Unix sockets have no phase `queue`",
        attached: When::Always,
        programs: &[syscall!("exit_connect"), syscall!("enter_connect")],
    },
    Feature {
        name: "signals",
        without: "signals are not counted, and the exit reason of a worker that a signal ended is a guess or `unknown`",
        attached: When::Always,
        programs: &[raw("signal_generated", "signal_generate")],
    },
    Feature {
        name: "stacks at timeouts",
        without: "the function in which a worker was stuck at a WORKER TIMEOUT is unknown",
        attached: When::Always,
        programs: &[
            raw("signal_delivered", "signal_deliver"),
            Program {
                name: "stack_of_thread",
                hook: Hook::StackTail,
            },
        ],
    },
    Feature {
        name: "OOM kills",
        without: "a worker that the OOM killer ended has the exit reason `crash`",
        attached: When::Always,
        programs: &[raw("oom_victim", "mark_victim")],
    },
    Feature {
        name: "exceptions",
        without: "class and function of a 5xx that the framework answered are `unknown` more often",
        attached: When::Interpreter,
        programs: &[python("exception_asked", PythonHook::ExceptionAsked)],
    },
    Feature {
        name: "deep capture",
        without: "exceptions that a framework swallows are reported as `unknown`",
        attached: When::DeepCapture,
        programs: &[python("deep_capture", PythonHook::TracebackHere)],
    },
    Feature {
        name: "GC pauses",
        without: "garbage-collection pauses are not measured",
        attached: When::Interpreter,
        programs: &[
            python("gc_begins", PythonHook::GcBegins),
            python("gc_ends", PythonHook::GcEnds),
        ],
    },
    Feature {
        name: "GIL waits",
        without: "`--gil` measures nothing",
        attached: When::Gil,
        programs: &[syscall!("exit_futex"), syscall!("enter_futex")],
    },
];

/// Every program with its feature.
pub fn programs() -> impl Iterator<Item = (&'static Feature, &'static Program)> {
    let rows = |feature: &'static Feature| feature.programs.iter().map(move |it| (feature, it));
    FEATURES.iter().flat_map(rows)
}

/// The program on a function of CPython.
#[must_use]
pub fn on(hook: PythonHook) -> Option<&'static Program> {
    let mut programs = programs().map(|(_, program)| program);
    programs.find(|program| program.hook == Hook::Python(hook))
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
        !matches!(self.hook, Hook::Tail(_) | Hook::StackTail)
    }
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
