//! What discovery found.

use crate::event::Pid;
use crate::fact;
use crate::python::arbiter::Arbiter;
use crate::python::target::Interpreter;
use probe_ebpf::python::Layout;

/// A master and what it knows.
#[derive(Clone, Debug)]
pub struct FoundMaster {
    pub master: fact::Master,
    pub workers: Vec<fact::Worker>,
    /// Its interpreter, or why it and its workers cannot be measured.
    pub interpreter: Result<Interpreter, String>,
    /// How to read it again; `None` when its memory is not understood.
    pub(super) reader: Option<Reader>,
}

/// What a process turned out to be.
#[derive(Clone, Debug)]
pub enum Candidate {
    NotGunicorn,
    /// It may become a master, or be readable, in a moment.
    NotReady {
        reason: String,
    },
    Master(Box<FoundMaster>),
    /// A worker of the master with this pid.
    WorkerOf(Pid),
    /// It looks like Gunicorn but cannot be looked at.
    Refused {
        reason: String,
    },
}

/// What a look at all processes found.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    pub masters: Vec<FoundMaster>,
    /// To be looked at again soon, and why.
    pub not_ready: Vec<(Pid, String)>,
    /// Look like Gunicorn but cannot be looked at, and why.
    pub refused: Vec<(Pid, String)>,
}

/// How to read a master again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub layout: Layout,
    pub arbiter: Arbiter,
}
