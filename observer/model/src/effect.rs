//! Effects: what the state asks its owner to do or to pass on.

use crate::event::Pid;
use crate::findings::finding::Finding;
use crate::lifecycle::worker_event::WorkerEvent;
use crate::recent::finished_request::FinishedRequest;
use std::collections::{BTreeSet, VecDeque};

/// One thing for the owner of the state to do or to pass on.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A request finished; only after [`State::report_requests`](crate::State::report_requests).
    Request(Box<FinishedRequest>),
    /// A worker started or exited, or a master exited.
    Worker(Box<WorkerEvent>),
    /// A finding began.
    Finding(Finding),
    /// A request of this master's workers failed, and its exception is unknown.
    DeepCaptureWanted {
        master_pid: Pid,
        /// The request, for people.
        request: String,
    },
}

/// The outbox of the state: filled while it takes an input, emptied by
/// [`State::poll_effect`](crate::State::poll_effect).
#[derive(Debug, Default)]
pub(crate) struct Effects {
    queue: VecDeque<Effect>,
    /// Masters with an [`Effect::DeepCaptureWanted`] in the queue.
    wanted: BTreeSet<Pid>,
    pub report_requests: bool,
}

impl Effects {
    pub fn push(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }

    /// Asks for a deep capture, once for each master until that is polled.
    pub fn want_deep_capture(&mut self, master_pid: Pid, request: impl FnOnce() -> String) {
        if self.wanted.insert(master_pid) {
            let request = request();
            self.push(Effect::DeepCaptureWanted {
                master_pid,
                request,
            });
        }
    }

    /// A master exited: it needs no deep capture any more.
    pub fn forget(&mut self, master: Pid) {
        if self.wanted.remove(&master) {
            self.queue.retain(|effect| {
                !matches!(effect, Effect::DeepCaptureWanted { master_pid, .. } if *master_pid == master)
            });
        }
    }

    pub fn poll(&mut self) -> Option<Effect> {
        let effect = self.queue.pop_front()?;
        if let Effect::DeepCaptureWanted { master_pid, .. } = &effect {
            self.wanted.remove(master_pid);
        }
        Some(effect)
    }
}
