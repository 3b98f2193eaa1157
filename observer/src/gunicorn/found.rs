//! What discovery found.

use crate::cpython::target::Interpreter;
use crate::gunicorn::arbiter::Arbiter;
use crate::gunicorn::worker::WorkerObject;
use observer_model::event::Pid;
use observer_model::fact;
use observer_model::fact::Level;
use probe_ebpf::memory::Fault;
use probe_ebpf::python::Layout;
use std::collections::HashMap;

/// A master and what it knows.
#[derive(Clone, Debug)]
pub struct FoundMaster {
    pub master: fact::Master,
    pub workers: Vec<fact::Worker>,
    /// Of those that it told of itself.
    pub objects: WorkerObjects,
    pub coverage: Coverage,
    /// Its interpreter, or why that cannot be probed.
    pub interpreter: Result<Interpreter, String>,
    /// How to read it again; `None` when its memory is not understood.
    pub(super) reader: Option<Reader>,
}

/// Where to read more of workers.
pub type WorkerObjects = HashMap<Pid, WorkerObject>;

/// How a master and its workers can be observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// By all probes: its interpreter is read, and its workers use Gunicorn's own request handling.
    Full(Box<Interpreter>),
    /// By the system calls of its workers, and why by no more.
    Socket(String),
    /// Not at all, and why.
    None(String),
}

impl Coverage {
    /// Of an interpreter, or why it cannot be probed; and of a worker class that
    /// handles requests its own way, or could not be read.
    pub(super) fn of(
        interpreter: &Result<Interpreter, String>,
        own_way: Result<Option<String>, Fault>,
    ) -> Self {
        match (interpreter, own_way) {
            (Err(reason), _) => Self::Socket(reason.clone()),
            (Ok(_), Ok(Some(reason))) => Self::Socket(reason),
            (Ok(_), Err(Fault)) => Self::Socket("its worker class cannot be read".to_owned()),
            (Ok(interpreter), Ok(None)) => Self::Full(Box::new(interpreter.clone())),
        }
    }

    /// As it is shown.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Full(_) => Level::Full,
            Self::Socket(_) => Level::Socket,
            Self::None(_) => Level::None,
        }
    }

    /// Why it is not better, or of the best what is still missing, or costs more than it
    /// should; else empty.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Full(interpreter) => interpreter.shortcomings().join("; "),
            Self::Socket(reason) | Self::None(reason) => reason.clone(),
        }
    }
}

/// What a process turned out to be.
#[derive(Clone, Debug)]
pub enum Candidate {
    NotGunicorn,
    /// It may become a master, or be readable, in a moment.
    NotReady {
        reason: String,
        /// Whether its stack was understood; not that of a process which does not
        /// even call itself Gunicorn.
        is_read: bool,
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
    /// Python programs that are no Gunicorn, but may fork one.
    pub bystanders: Vec<Pid>,
}

/// How to read a master again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub layout: Layout,
    pub arbiter: Arbiter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_obstacle_is_the_reason() {
        let unread = || Err::<Interpreter, _>("unread".to_owned());
        let own = || Ok(Some("own".to_owned()));
        let socket = |reason: &str| Coverage::Socket(reason.to_owned());
        assert_eq!(Coverage::of(&unread(), Ok(None)), socket("unread"));
        assert_eq!(Coverage::of(&unread(), own()), socket("unread"));
        assert_eq!(Coverage::of(&unread(), Err(Fault)), socket("unread"));
        assert_eq!(socket("own").level(), Level::Socket);
        assert_eq!(socket("own").reason(), "own");
    }
}
