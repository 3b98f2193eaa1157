//! Dirty pools: below a master a dirty arbiter, below that dirty workers. They serve no HTTP.
//!
//! ```text
//!  master ── fork ──> worker (unconfirmed) ── Fact::Dirty ──> dirty arbiter ── fork ──> dirty worker
//! ```

use super::app::keep_asked;
use crate::event::Pid;
use crate::fact::{Dirty, DirtyRole};
use crate::lifecycle::exit_reason::{self, Evidence};
use crate::lifecycle::worker_state::{Sent, WorkerState};
use crate::state::State;
use crate::state::worker::End;
use std::collections::BTreeMap;

/// Most processes of dirty pools: as many as the kernel's map of observed processes has room for.
const MAX_DIRTY: usize = 8192;

/// The live processes of dirty pools.
pub(crate) type DirtyProcesses = BTreeMap<Pid, DirtyProcess>;

/// A process of a dirty pool.
#[derive(Debug)]
pub(crate) struct DirtyProcess {
    pub fact: Dirty,
    pub state: WorkerState,
    /// The last signals that asked a dirty arbiter for something, in order.
    asked: Vec<Sent>,
}

impl DirtyProcess {
    pub fn signal(&mut self, sent: Sent) {
        self.state.signal(sent);
        keep_asked(&mut self.asked, sent);
    }
}

impl State {
    /// A process of a dirty pool was found.
    pub(crate) fn dirty(&mut self, fact: &Dirty) {
        let pid = fact.pid;
        let tomb = self.tombstones.get(&pid);
        let has_exited = tomb.is_some_and(|tomb| fact.started_ns <= tomb.end.time_ns);
        if has_exited || !self.apps.contains_key(&fact.master_pid) {
            return;
        }
        let worker = self.owners.remove(&pid).and_then(|owner| {
            let app = self.apps.get_mut(&owner)?;
            app.release(pid)
        });
        let provisional = self.provisional.get(&pid).map(|it| it.state.clone());
        self.drop_provisional(pid);
        self.add_dirty(*fact, worker.or(provisional).unwrap_or_default());
    }

    fn add_dirty(&mut self, fact: Dirty, state: WorkerState) {
        if let Some(app) = self.apps.get_mut(&fact.master_pid) {
            app.dirty_ends.get_or_insert_default();
        }
        if let Some(known) = self.dirty.get_mut(&fact.pid) {
            known.fact = fact;
        } else if self.dirty.len() < MAX_DIRTY {
            let asked = Vec::new();
            self.dirty
                .insert(fact.pid, DirtyProcess { fact, state, asked });
        }
    }

    /// A process forked. True if it belongs to a dirty pool: the children of its arbiter are dirty workers,
    /// those of its workers are not of interest.
    pub(crate) fn dirty_forked(&mut self, time_ns: u64, parent: Pid, child: Pid) -> bool {
        let Some(of) = self.dirty.get(&parent).map(|it| it.fact) else {
            return false;
        };
        if of.role == DirtyRole::Arbiter {
            let worker = Dirty {
                pid: child,
                master_pid: of.master_pid,
                role: DirtyRole::Worker,
                parent,
                started_ns: time_ns,
            };
            self.add_dirty(worker, WorkerState::default());
        }
        true
    }

    /// A process exited, perhaps one of a dirty pool.
    pub(crate) fn dirty_exited(&mut self, pid: Pid, end: End) {
        let Some(gone) = self.dirty.remove(&pid) else {
            return;
        };
        let Dirty {
            master_pid,
            role,
            parent,
            ..
        } = gone.fact;
        let arbiter = self.dirty.get(&parent);
        let Some(app) = self.apps.get_mut(&master_pid) else {
            return;
        };
        let (asked, has_parent) = match role {
            DirtyRole::Arbiter => (app.asked.as_slice(), app.ended_ns.is_none()),
            DirtyRole::Worker => (arbiter.map_or(&[][..], |it| &it.asked), arbiter.is_some()),
        };
        let exit = exit_reason::of(&Evidence {
            state: &gone.state,
            status: end.status,
            ended_ns: end.time_ns,
            master: parent,
            asked,
            // A dirty arbiter whose master is gone stops its workers without a signal.
            is_halting: app.is_halting || app.ended_ns.is_some(),
            master_ended: !has_parent,
            takes_commands: role == DirtyRole::Worker,
            max_requests: None,
            served: 0,
            is_all: true,
        });
        let ends = app.dirty_ends.get_or_insert_default();
        *ends.entry((role, exit.0)).or_default() += 1;
        self.report_dirty_exit(&gone, end, exit);
    }
}
