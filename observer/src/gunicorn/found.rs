//! Results of [`super::tree::Tree`].

use crate::cpython::target::Interpreter;
use crate::gunicorn::arbiter::Arbiter;
use crate::gunicorn::handling::Handling;
use crate::gunicorn::worker::WorkerObject;
use observer_model::Untrusted;
use observer_model::event::Pid;
use observer_model::fact;
use observer_model::fact::Level;
use probe_ebpf::memory::Fault;
use probe_ebpf::python::Layout;
use std::collections::HashMap;

/// A master and its workers.
#[derive(Clone, Debug)]
pub struct FoundMaster {
    pub master: fact::Master,
    pub workers: Vec<fact::Worker>,
    /// The worker objects in its memory, by PID.
    pub objects: WorkerObjects,
    pub coverage: Coverage,
    /// Its interpreter, or why that cannot be probed.
    pub interpreter: Result<Interpreter, Untrusted>,
    /// How to read it again; `None` if its memory cannot be read.
    pub(super) reader: Option<Reader>,
}

/// Worker objects by PID.
pub type WorkerObjects = HashMap<Pid, WorkerObject>;

/// How closely a master and its workers can be observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// By all probes: the interpreter can be probed and the workers use Gunicorn's request handling.
    Full(Box<Interpreter>),
    /// By the connections of the workers, and the tasks of asyncio that serve requests.
    Tasks(Box<Interpreter>),
    /// By the connections of the workers only, and why.
    Socket(Untrusted),
    /// Not at all, and why.
    None(Untrusted),
}

impl Coverage {
    /// The coverage with this interpreter, or the reason that there is none, and with a worker class that
    /// handles requests like this.
    pub(super) fn of(
        interpreter: &Result<Interpreter, Untrusted>,
        handling: Result<Handling, Fault>,
    ) -> Self {
        match (interpreter, handling) {
            (Err(reason), _) => Self::Socket(reason.clone()),
            (Ok(_), Ok(Handling::Own(reason))) => Self::Socket(reason),
            (Ok(_), Err(Fault)) => Self::Socket("its worker class cannot be read".into()),
            (Ok(interpreter), Ok(Handling::Gunicorns)) => Self::Full(Box::new(interpreter.clone())),
            (Ok(interpreter), Ok(Handling::Tasks(_))) => match &interpreter.tasks {
                Ok(_) => Self::Tasks(Box::new(interpreter.clone())),
                Err(why) => Self::Socket(format!("no tasks of asyncio: {}", why.raw()).into()),
            },
        }
    }

    /// The observation level.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Full(_) | Self::Tasks(_) => Level::Full,
            Self::Socket(_) => Level::Socket,
            Self::None(_) => Level::None,
        }
    }

    /// Why the level is not `full`, or what is missing or costs more than it should; else empty.
    #[must_use]
    pub fn reason(&self) -> Untrusted {
        match self {
            Self::Full(interpreter) | Self::Tasks(interpreter) => interpreter.shortcomings(),
            Self::Socket(reason) | Self::None(reason) => reason.clone(),
        }
    }
}

/// Kind of a process.
#[derive(Clone, Debug)]
pub enum Candidate {
    NotGunicorn,
    /// It may become a master, or readable, in a moment.
    NotReady {
        reason: Untrusted,
        /// Its memory could be read, or it does not call itself Gunicorn.
        is_read: bool,
    },
    Master(Box<FoundMaster>),
    /// A worker of the master with this pid.
    WorkerOf(Pid),
    /// It looks like Gunicorn but cannot be read.
    Refused {
        reason: Untrusted,
    },
}

/// The result of reading all processes.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    pub masters: Vec<FoundMaster>,
    /// To be read again soon, and why.
    pub not_ready: Vec<(Pid, Untrusted)>,
    /// Look like Gunicorn but cannot be read, and why.
    pub refused: Vec<(Pid, Untrusted)>,
    /// Those of them that call themselves Gunicorn.
    pub unobserved: Vec<FoundMaster>,
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
        let unread = || Err::<Interpreter, _>(Untrusted::from("unread"));
        let own = || Ok(Handling::Own("own".into()));
        let socket = |reason: &str| Coverage::Socket(reason.into());
        let gunicorns = Coverage::of(&unread(), Ok(Handling::Gunicorns));
        assert_eq!(gunicorns, socket("unread"));
        assert_eq!(Coverage::of(&unread(), own()), socket("unread"));
        assert_eq!(Coverage::of(&unread(), Err(Fault)), socket("unread"));
        assert_eq!(socket("own").level(), Level::Socket);
        assert_eq!(socket("own").reason().raw(), "own");
    }
}
