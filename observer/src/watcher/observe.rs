//! From a candidate to an observed master with its workers.

use super::{FOLLOW_UP_NS, FOLLOW_UPS, Master, Next, RAREST_LOOK_NS, Watcher, is_alive};
use crate::clock::monotonic_ns;
use crate::cpython::gil;
use crate::cpython::target::Interpreter;
use crate::gunicorn::tree::{Candidate, Coverage, FoundMaster};
use crate::process::memory::ProcessMemory;
use anyhow::Result;
use observer_model::event::Pid;
use observer_model::fact;
use observer_model::fact::{Fact, Level, TargetLevel};
use probe_ebpf::abi::{NO_LAYOUT, Role, Target};
use std::collections::HashSet;

impl Watcher {
    /// DeepCaptures whether a candidate has become a master.
    pub(super) fn look(&mut self, pid: Pid, now: u64) {
        match self.tree.inspect_candidate(pid) {
            Candidate::Master(found) => {
                self.candidates.remove(&pid);
                self.confirm(*found);
            }
            Candidate::WorkerOf(master) => {
                // Its master tells of it, or will, unless it is not observed.
                self.candidates.remove(&pid);
                if self.refused.contains(&master) {
                    self.tables.remove_target(pid);
                }
            }
            Candidate::Refused { reason } => {
                self.candidates.remove(&pid);
                self.refuse(pid, reason);
            }
            Candidate::NotReady { reason, is_read } => {
                tracing::trace!(pid, reason, "not a master yet");
                self.read_early(pid);
                let Some(look) = self.candidates.get_mut(&pid) else {
                    return;
                };
                match look.was_not_ready(now, is_read) {
                    Next::LookAgain => {}
                    Next::TakeUnread => self.take_unread(pid, &reason),
                    Next::GiveUp => self.give_up(pid),
                }
            }
            Candidate::NotGunicorn if is_alive(pid) => {
                // A Python program, or one that just overwrites its command line with a title.
                // If it becomes a master, it is known by its first fork.
                self.read_early(pid);
                if let Some(look) = self.candidates.get_mut(&pid) {
                    if look.at_ns < look.until_ns {
                        look.at_ns = look.until_ns;
                        look.after_fork_ns = (look.after_fork_ns * 3 / 2).min(RAREST_LOOK_NS);
                    } else {
                        self.give_up(pid);
                    }
                }
            }
            Candidate::NotGunicorn => {
                self.tables.remove_target(pid);
                self.forget(pid);
            }
        }
    }

    /// Attaches to a candidate's interpreter as soon as that can be done.
    fn read_early(&mut self, pid: Pid) {
        let known = self.tables.target(pid);
        if known.is_some_and(|known| known.layout == NO_LAYOUT)
            && self.role(pid) == Some(Role::Candidate)
            && let Ok(interpreter) = self.tree.interpreter(pid)
            && let Err(error) = self.try_observe(pid, Role::Candidate, &interpreter)
        {
            // Of a master this is told when it is known to be one.
            tracing::debug!(pid, "{error:#}");
        }
    }

    /// What calls itself Gunicorn and was never understood is observed as far as
    /// that needs no understanding.
    fn take_unread(&mut self, pid: Pid, reason: &str) {
        match self.tree.inspect_unread(pid, reason) {
            Candidate::Master(found) => {
                self.candidates.remove(&pid);
                self.confirm(*found);
            }
            // Its master tells of it, or will.
            Candidate::WorkerOf(_) => _ = self.candidates.remove(&pid),
            _ => self.give_up(pid),
        }
    }

    /// It is looked at no more, until it forks.
    fn give_up(&mut self, pid: Pid) {
        self.forget(pid);
        self.stand_by(pid);
    }

    pub(super) fn refuse(&mut self, pid: Pid, reason: String) {
        self.tables.remove_target(pid);
        self.forget_look(pid);
        self.release(pid);
        if self.refused.insert(pid) {
            tracing::warn!(pid, "cannot observe this Gunicorn master: {reason}");
            let level = Level::None;
            self.tell(Fact::Level(TargetLevel { pid, level, reason }));
        }
    }

    /// A master is known: it and its workers are observed from now on.
    pub(super) fn confirm(&mut self, mut found: FoundMaster) {
        let pid = found.master.pid;
        self.tell(Fact::Master(found.master.clone()));
        if let Coverage::None(reason) = &found.coverage {
            for worker in &found.workers {
                self.candidates.remove(&worker.pid);
                self.tables.remove_target(worker.pid);
            }
            return self.refuse(pid, reason.clone());
        }
        let Some(coverage) = self.cover(pid, found.coverage) else {
            return;
        };
        if coverage.level() == Level::Socket {
            // As a candidate it may have been taken for more.
            self.interpreters.release(pid);
        }
        found.coverage = coverage;
        self.refused.remove(&pid);
        tracing::info!(
            pid,
            app = found.master.app,
            class = found.master.worker_class,
            python = found.master.python_version,
            gunicorn = found.master.gunicorn_version,
            level = found.coverage.level().as_str(),
            reason = found.coverage.reason().as_str(),
            "observing a Gunicorn master"
        );
        found.workers.clear(); // read and told afresh below
        let master = Master {
            found,
            expected: HashSet::new(),
            follow_ups: FOLLOW_UPS,
            follow_up_ns: Some(monotonic_ns() + FOLLOW_UP_NS),
        };
        self.masters.insert(pid, master);
        // Workers forked from now on are followed by the kernel; those from before are here.
        self.observe_workers(pid);
        self.gauges.hasten(monotonic_ns());
    }

    /// Makes a master a target, as well as it can be observed; tells how well.
    fn cover(&mut self, pid: Pid, mut coverage: Coverage) -> Option<Coverage> {
        let mut unseen = None;
        if let Coverage::Full(interpreter) = &coverage {
            match self.try_observe(pid, Role::Master, interpreter) {
                Ok(without) => unseen = without,
                Err(error) => coverage = Coverage::Socket(format!("{error:#}")),
            }
        }
        if let Coverage::Socket(_) = coverage {
            let target = Target {
                layout: NO_LAYOUT,
                generation: monotonic_ns(),
                ..Target::default()
            };
            if let Err(error) = self.tables.set_target(pid, Role::Master, target) {
                self.refuse(pid, format!("{error:#}"));
                return None;
            }
            // Without, what its workers do by other calls is still seen.
            if let Err(error) = self.plain_calls.need(self.interpreters.programs(), pid) {
                tracing::warn!(pid, "{error:#}");
            }
        }
        let level = coverage.level();
        let reasons = [Some(coverage.reason()), unseen].into_iter().flatten();
        let reasons: Vec<_> = reasons.filter(|reason| !reason.is_empty()).collect();
        let reason = reasons.join("; ");
        self.tell(Fact::Level(TargetLevel { pid, level, reason }));
        Some(coverage)
    }

    /// Attaches to the interpreter of a process and makes the process a target; tells what cannot
    /// be seen of it.
    fn try_observe(
        &mut self,
        pid: Pid,
        role: Role,
        interpreter: &Interpreter,
    ) -> Result<Option<String>> {
        self.interpreters.attach(pid, interpreter)?;
        let asked = self.interpreters.attach_asked(pid, interpreter);
        let unseen = asked.err().map(|error| {
            format!("exceptions that the application handles are not seen: {error:#}")
        });
        let target = Target {
            layout: self.tables.layout(&interpreter.layout)?,
            tstate_slot: interpreter.tstate_slot,
            generation: monotonic_ns(),
            ..Target::default()
        };
        self.tables.set_target(pid, role, target)?;
        self.count_gil(pid, interpreter);
        // After that, and not before: requests come first.
        if let Err(why) = &interpreter.collector {
            tracing::debug!(pid, "garbage collections are not seen: {why}");
        }
        if let Err(error) = self.interpreters.attach_collector(pid, interpreter) {
            tracing::info!(pid, "garbage collections are not seen: {error:#}");
        }
        Ok(unseen)
    }

    /// If they are asked for, waits for the GIL are counted from now on.
    fn count_gil(&mut self, pid: Pid, interpreter: &Interpreter) {
        if !self.gil {
            return;
        }
        let memory = ProcessMemory::new(pid);
        let Ok(waited_on) = gil::waited_on(&memory, interpreter) else {
            tracing::debug!(pid, "its GIL cannot be read");
            return;
        };
        if let Err(error) = self.tables.set_gil(pid, waited_on) {
            tracing::warn!("{error:#}");
        }
    }

    /// Tells of the masters whose pods have other names than before.
    pub(super) fn name_pods(&mut self) {
        let mut renamed = Vec::new();
        for master in self.masters.values_mut() {
            let master = &mut master.found.master;
            let pod = self.tree.named(master);
            if pod != master.pod {
                master.pod = pod;
                renamed.push(master.clone());
            }
        }
        for master in renamed {
            self.tell(Fact::Master(master));
        }
    }

    /// Reads a master's settings and workers, observes the workers, and tells what is new.
    pub(super) fn observe_workers(&mut self, pid: Pid) {
        let Some(mut master) = self.masters.remove(&pid) else {
            return;
        };
        // A master that changes while it is read is read again at the next follow-up.
        if let Ok((settings, coverage)) = self.tree.refresh_master(&master.found) {
            if settings != master.found.master {
                self.tell(Fact::Master(settings.clone()));
                master.found.master = settings;
            }
            // Another worker class: the probe stays for workers of the former one.
            if coverage != master.found.coverage {
                match self.cover(pid, coverage) {
                    Some(coverage) => master.found.coverage = coverage,
                    None => return,
                }
            }
        }
        if let Ok((workers, objects)) = self.tree.refresh_workers(&master.found) {
            for worker in &workers {
                self.observe_worker(worker, &master.found.master.worker_class);
                master.expected.remove(&worker.pid);
                if !master.found.workers.contains(worker) {
                    self.tell(Fact::Worker(worker.clone()));
                }
            }
            master.found.workers = workers;
            master.found.objects = objects;
        }
        self.masters.insert(pid, master);
    }

    /// Makes a worker a target, as its master is one whose new workers are of `class`.
    fn observe_worker(&mut self, worker: &fact::Worker, class: &str) {
        self.candidates.remove(&worker.pid);
        let Some(of_master) = self.tables.target(worker.master_pid) else {
            return;
        };
        if let Some(known) = self.tables.target(worker.pid)
            && known.role == Role::Worker as u32
            && (known.layout == of_master.layout || worker.class != class)
        {
            return;
        }
        let generation = monotonic_ns();
        let target = Target {
            generation,
            ..of_master
        };
        let set = self.tables.set_target(worker.pid, Role::Worker, target);
        let set = set.and_then(|()| self.tables.set_gil_as(worker.pid, worker.master_pid));
        if let Err(error) = set {
            tracing::warn!("{error:#}");
        }
    }

    pub(super) fn follow_up(&mut self, pid: Pid, now: u64) {
        self.observe_workers(pid);
        let Some(master) = self.masters.get_mut(&pid) else {
            return;
        };
        master.follow_ups = master.follow_ups.saturating_sub(1);
        let again = !master.expected.is_empty() && master.follow_ups > 0;
        master.follow_up_ns = again.then_some(now + FOLLOW_UP_NS * 4);
    }
}
