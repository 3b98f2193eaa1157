//! From a candidate to an observed master with its workers.

use super::{FOLLOW_UP_NS, FOLLOW_UPS, LONGEST_PAUSE_NS, Master, Next, Watcher, is_alive};
use crate::clock::monotonic_ns;
use crate::cpython::error::REASON_CHARS;
use crate::cpython::gil;
use crate::cpython::target::Interpreter;
use crate::gunicorn::listeners::{self, ListenerReader, Listeners, Listens};
use crate::gunicorn::tree::{Candidate, Coverage, FoundMaster};
use crate::probe::features::{Need, PythonHook};
use crate::probe::programs::LateFailure;
use crate::process::memory::ProcessMemory;
use anyhow::Result;
use observer_model::Untrusted;
use observer_model::event::Pid;
use observer_model::fact;
use observer_model::fact::{Fact, Level, TargetLevel};
use probe_ebpf::abi::{MAX_PORTS, NO_LAYOUT, Role, Target, target_flags};
use std::collections::HashSet;

impl Watcher {
    /// Checks whether a candidate has become a master.
    pub(super) fn check(&mut self, pid: Pid, now: u64) {
        match self.tree.inspect_candidate(pid) {
            Candidate::Master(found) => {
                self.candidates.remove(&pid);
                self.confirm(*found);
            }
            Candidate::WorkerOf(master) => {
                // Its master lists it, or will, unless the master is not observed.
                self.candidates.remove(&pid);
                if self.refused.contains(&master) {
                    self.programs.maps.remove_target(pid);
                }
            }
            Candidate::Refused { reason } => {
                self.candidates.remove(&pid);
                if !self.not_observed(pid, &reason) {
                    self.refuse(pid, &reason);
                }
            }
            Candidate::NotReady { reason, is_read } => {
                let shown = reason.for_terminal(REASON_CHARS);
                tracing::trace!(pid, reason = shown, "not a master yet");
                self.read_early(pid);
                let Some(checks) = self.candidates.get_mut(&pid) else {
                    return;
                };
                match checks.schedule(now, is_read) {
                    Next::CheckAgain => {}
                    Next::TakeUnread => self.take_unread(pid, &reason),
                    Next::GiveUp => self.give_up(pid, &reason),
                }
            }
            Candidate::NotGunicorn if is_alive(pid) => {
                // A Python program, or one that just overwrites its command line with a title. Its
                // first fork shows whether it becomes a master.
                self.read_early(pid);
                if let Some(checks) = self.candidates.get_mut(&pid) {
                    if checks.at_ns < checks.until_ns {
                        checks.at_ns = checks.until_ns;
                        checks.after_fork_ns = (checks.after_fork_ns * 3 / 2).min(LONGEST_PAUSE_NS);
                    } else {
                        self.give_up(pid, &"it does not run Gunicorn".into());
                    }
                }
            }
            Candidate::NotGunicorn => {
                self.programs.maps.remove_target(pid);
                self.forget(pid);
            }
        }
    }

    /// Attaches to a candidate's interpreter as soon as possible.
    fn read_early(&mut self, pid: Pid) {
        let known = self.programs.maps.target(pid);
        if known.is_some_and(|known| known.layout == NO_LAYOUT)
            && self.role(pid) == Some(Role::Candidate)
            && let Ok(interpreter) = self.tree.interpreter(pid)
            && let Err(error) = self.try_observe(pid, Role::Candidate, &interpreter)
        {
            // For a master, `cover` reports the error.
            tracing::debug!(pid, "cannot attach to a candidate yet: {error:#}");
        }
    }

    /// Observes a process that calls itself Gunicorn but whose stack was never understood, at its
    /// sockets only.
    fn take_unread(&mut self, pid: Pid, reason: &Untrusted) {
        match self.tree.inspect_unread(pid, reason) {
            Candidate::Master(found) => {
                self.candidates.remove(&pid);
                self.confirm(*found);
            }
            // Its master lists it, or will.
            Candidate::WorkerOf(_) => _ = self.candidates.remove(&pid),
            _ => self.give_up(pid, reason),
        }
    }

    /// Makes a candidate a bystander: it is checked again when it forks. One that calls itself Gunicorn is
    /// reported.
    fn give_up(&mut self, pid: Pid, reason: &Untrusted) {
        self.forget(pid);
        self.not_observed(pid, reason);
        self.stand_by(pid);
    }

    /// Reports a process that calls itself Gunicorn, but is not observed for this reason. False if it calls
    /// itself something else, or belongs to a Gunicorn that is reported.
    pub(super) fn not_observed(&mut self, pid: Pid, reason: &Untrusted) -> bool {
        let masters = self.masters.values().map(|master| &master.found);
        let pids = masters.flat_map(|found| {
            let workers = found.workers.iter().map(|worker| worker.pid);
            workers.chain([found.master.pid])
        });
        let known = pids.chain(self.refused.iter().copied()).collect();
        let found = self.tree.unobserved(pid, reason, &known);
        let is_reported = found.is_some();
        if let Some(found) = found {
            self.confirm(found);
        }
        is_reported
    }

    pub(super) fn refuse(&mut self, pid: Pid, reason: &Untrusted) {
        self.programs.maps.remove_target(pid);
        self.forget_deep_capture(pid);
        self.programs.release(pid);
        if self.refused.insert(pid) {
            let shown = reason.for_terminal(REASON_CHARS);
            tracing::warn!(pid, "cannot observe Gunicorn master: {shown}");
            let (level, reason) = (Level::None, reason.raw().into());
            self.send(Fact::Level(TargetLevel { pid, level, reason }));
        }
    }

    /// Observes a master and its workers from now on.
    pub(super) fn confirm(&mut self, mut found: FoundMaster) {
        let pid = found.master.pid;
        self.send(Fact::Master(found.master.clone()));
        if let Coverage::None(reason) = &found.coverage {
            self.refuse(pid, reason);
            return self.forget_workers(&found.workers);
        }
        let Some((coverage, level)) = self.cover(pid, found.coverage, &found.interpreter, true)
        else {
            return self.forget_workers(&found.workers);
        };
        found.coverage = coverage;
        self.refused.remove(&pid);
        let is_tls = listeners::is_tls(&found);
        let listens = ListenerReader::default()
            .of_master(self.tree.procfs(), &found)
            .map(|(sockets, _)| Listens::on(&sockets));
        found.workers.clear(); // read and reported again below
        let master = Master {
            found,
            unreported: Some(level),
            is_tls,
            listeners: Listeners::default(),
            dirty: Vec::new(),
            expected: HashSet::new(),
            follow_ups: FOLLOW_UPS,
            follow_up_ns: Some(monotonic_ns() + FOLLOW_UP_NS),
        };
        self.masters.insert(pid, master);
        // Before its workers, which become targets like it.
        self.listen(pid, &listens.unwrap_or_default());
        // The programs follow workers forked from now on; this finds earlier ones.
        self.observe_workers(pid);
        if let Some(master) = self.masters.get(&pid) {
            log_observed(&master.found);
        }
        self.gauges.hasten(monotonic_ns());
    }

    fn forget_workers(&mut self, workers: &[fact::Worker]) {
        for worker in workers {
            self.candidates.remove(&worker.pid);
            self.programs.maps.remove_target(worker.pid);
        }
    }

    /// Makes a master a target at the best observation level possible. The level is to be reported once
    /// its workers are targets, too.
    fn cover(
        &mut self,
        pid: Pid,
        mut coverage: Coverage,
        interpreter: &Result<Interpreter, Untrusted>,
        is_new: bool,
    ) -> Option<(Coverage, TargetLevel)> {
        let mut unseen = None;
        if let Coverage::Full(interpreter) = &coverage {
            match self.try_observe(pid, Role::Master, interpreter) {
                Ok(without) => unseen = without,
                Err(error) => coverage = Coverage::Socket(format!("{error:#}").into()),
            }
        }
        if !matches!(coverage, Coverage::Full(_)) {
            if !self.programs.see_sockets() {
                let reason = coverage.reason();
                let reason = ["--probes entry-exit sees no sockets", reason.raw()];
                self.refuse(pid, &join_reasons(reason).into());
                return None;
            }
            if is_new {
                // As a candidate it may have attachments.
                self.programs.release_interpreter(pid);
            }
            let mut target = match interpreter {
                Ok(interpreter) => self.read_beside(pid, interpreter),
                Err(_) => Target::unread(monotonic_ns()),
            };
            if let Coverage::Tasks(interpreter) = &coverage {
                match self.observe_tasks(pid, interpreter) {
                    Ok(without) => {
                        unseen = without;
                        target.flags |= target_flags::TASKS;
                    }
                    Err(error) => coverage = Coverage::Socket(format!("{error:#}").into()),
                }
            }
            if let Err(error) = self.programs.maps.set_target(pid, Role::Master, target) {
                self.refuse(pid, &format!("{error:#}").into());
                return None;
            }
            let accepts = (!self.programs.sees_accepts()).then_some(Need::Accepts);
            for need in [Some(Need::SocketLevel), accepts].into_iter().flatten() {
                // Without these programs, connections that use other calls are still seen.
                if let Err(error) = self.programs.need(pid, need) {
                    tracing::warn!(pid, "{error:#}");
                }
            }
        }
        let level = coverage.level();
        let unseen = unseen.unwrap_or_default();
        let reason = join_reasons([coverage.reason().raw(), unseen.as_str()]);
        Some((coverage, TargetLevel { pid, level, reason }))
    }

    /// Shows the programs which sockets of a master's workers are its connections, and attaches what
    /// those need.
    pub(super) fn listen(&mut self, pid: Pid, listens: &Listens) {
        let Some(master) = self.masters.get(&pid) else {
            return;
        };
        if listens.ports.is_empty() && !listens.has_unix {
            // It stops: what its workers still hold are connections of the listeners that it had.
            return;
        }
        let workers = master.found.workers.iter().map(|worker| worker.pid);
        let pids: Vec<Pid> = std::iter::once(pid).chain(workers).collect();
        let ports = if listens.ports.len() > MAX_PORTS {
            &[]
        } else {
            listens.ports.as_slice()
        };
        let maps = &self.programs.maps;
        let is_unread = |pid: &Pid| maps.target(*pid).is_some_and(|it| it.is_by_socket());
        let decrypts_by_calls = master.is_tls && self.programs.sees_calls();
        if decrypts_by_calls {
            if let Err(error) = self.programs.need(pid, Need::SocketLevel) {
                tracing::warn!(pid, "{error:#}");
            }
        } else if !pids.iter().any(is_unread) {
            self.programs.no_need(pid, Need::SocketLevel);
            self.programs.no_need(pid, Need::Accepts);
        }
        for target in pids {
            let set = self
                .programs
                .maps
                .set_listeners(target, ports, master.is_tls);
            if let Err(error) = set {
                tracing::warn!("{error:#}");
            }
        }
        if !listens.has_unix {
            self.programs.no_need(pid, Need::UnixListeners);
        } else if let Err(error) = self.programs.need(pid, Need::UnixListeners) {
            tracing::warn!(pid, "{error:#}");
        }
    }

    /// Attaches to the interpreter of a process and makes the process a target. Returns what cannot be
    /// seen of it.
    fn try_observe(
        &mut self,
        pid: Pid,
        role: Role,
        interpreter: &Interpreter,
    ) -> Result<Option<String>> {
        self.programs.attach_requests(pid, interpreter)?;
        let attached = self.programs.attach_exceptions(pid, interpreter);
        let unseen = attached
            .err()
            .map(|error| unseen(PythonHook::ExceptionAsked, &error));
        let target = Target {
            layout: self.programs.maps.layout(&interpreter.layout)?,
            tstate_slot: interpreter.tstate_slot,
            generation: monotonic_ns(),
            ..Target::default()
        };
        self.programs.maps.set_target(pid, role, target)?;
        self.measure_gil(pid, interpreter);
        // Last, because requests come first.
        if let Err(why) = &interpreter.collector {
            let why = why.for_terminal(REASON_CHARS);
            tracing::debug!(pid, "GC pauses are not measured: {why}");
        }
        if let Err(error) = self.programs.attach_gc(pid, interpreter) {
            tracing::info!(pid, "GC pauses are not measured: {error:#}");
        }
        Ok(unseen)
    }

    /// Attaches to the tasks of an interpreter, which show whose exceptions are whose. Returns what cannot
    /// be seen of them.
    fn observe_tasks(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<Option<String>> {
        self.programs.attach_tasks(pid, interpreter)?;
        let read = self.programs.attach_tracebacks(pid, interpreter);
        let asked = self.programs.attach_exceptions(pid, interpreter);
        let failed = [
            (PythonHook::TracebackRead, read),
            (PythonHook::ExceptionAsked, asked),
        ];
        let failed = failed
            .into_iter()
            .find_map(|(hook, attached)| Some((hook, attached.err()?)));
        Ok(failed.map(|(hook, error)| unseen(hook, &error)))
    }

    /// A target whose requests its sockets show, and whose interpreter is read for all else: stacks,
    /// garbage collections, the GIL.
    fn read_beside(&mut self, pid: Pid, interpreter: &Interpreter) -> Target {
        let unread = Target::unread(monotonic_ns());
        let layout = match self.programs.maps.layout(&interpreter.layout) {
            Ok(layout) => layout,
            Err(error) => {
                tracing::warn!(pid, "{error:#}");
                return unread;
            }
        };
        self.measure_gil(pid, interpreter);
        if let Err(error) = self.programs.attach_gc(pid, interpreter) {
            tracing::info!(pid, "GC pauses are not measured: {error:#}");
        }
        Target {
            layout,
            tstate_slot: interpreter.tstate_slot,
            ..unread
        }
    }

    /// Takes the programs that were left for later, as they are loaded.
    pub(super) fn take_late(&mut self) {
        for LateFailure { pid, hook, error } in self.programs.take_late() {
            let unseen = unseen(hook, &error);
            let Some(master) = self.masters.get(&pid) else {
                tracing::debug!(pid, "{unseen}");
                continue;
            };
            let level = master.found.coverage.level();
            let of_coverage = master.found.coverage.reason();
            let reason = join_reasons([of_coverage.raw(), unseen.as_str()]);
            self.send(Fact::Level(TargetLevel { pid, level, reason }));
        }
    }

    /// Measures GIL waits of a process from now on, with `--gil`.
    fn measure_gil(&mut self, pid: Pid, interpreter: &Interpreter) {
        if !self.options.gil {
            return;
        }
        let memory = ProcessMemory::new(pid);
        let Ok(waited_on) = gil::waited_on(&memory, interpreter) else {
            tracing::debug!(pid, "GIL waits are not measured: the GIL cannot be read");
            return;
        };
        if let Err(error) = self.programs.maps.set_gil(pid, waited_on) {
            tracing::warn!("{error:#}");
        }
    }

    /// Reports masters whose pods changed their names.
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
            self.send(Fact::Master(master));
        }
    }

    /// Reads a master's settings and workers, observes the workers, and reports changes.
    pub(super) fn observe_workers(&mut self, pid: Pid) {
        let Some(mut master) = self.masters.remove(&pid) else {
            return;
        };
        // If the master changes during the read, the next follow-up reads it again.
        if let Ok((settings, coverage)) = self.tree.refresh_master(&master.found) {
            if settings != master.found.master {
                self.send(Fact::Master(settings.clone()));
                master.found.master = settings;
            }
            // The worker class changed: the attachments stay for workers of the former class.
            if coverage != master.found.coverage {
                match self.cover(pid, coverage, &master.found.interpreter, false) {
                    Some((coverage, level)) => {
                        master.found.coverage = coverage;
                        master.unreported = Some(level);
                    }
                    None => return,
                }
            }
        }
        if let Ok((workers, objects)) = self.tree.refresh_workers(&master.found) {
            for worker in &workers {
                self.observe_worker(worker, &master.found.master.worker_class);
                master.expected.remove(&worker.pid);
                if !master.found.workers.contains(worker) {
                    self.send(Fact::Worker(worker.clone()));
                }
            }
            master.found.workers = workers;
            master.found.objects = objects;
        }
        let dirty = self.tree.dirty_pool(&master.found);
        for one in &dirty {
            self.observe_dirty(one);
            master.expected.remove(&one.pid);
            if !master.dirty.contains(one) {
                self.send(Fact::Dirty(*one));
            }
        }
        master.dirty = dirty;
        if let Some(level) = master.unreported.take() {
            self.send(Fact::Level(level));
        }
        self.masters.insert(pid, master);
    }

    /// Makes a worker a target like its master, whose new workers are of `class`.
    fn observe_worker(&mut self, worker: &fact::Worker, class: &str) {
        self.candidates.remove(&worker.pid);
        let Some(of_master) = self.programs.maps.target(worker.master_pid) else {
            return;
        };
        let known = self.programs.maps.target(worker.pid);
        let layers = target_flags::BY_SOCKET | target_flags::TASKS;
        let seen_as = |target: &Target| (target.layout, target.flags & layers);
        let is_same = known.is_some_and(|known| seen_as(&known) == seen_as(&of_master));
        if let Some(known) = known
            && known.role == Role::Worker as u32
            && (is_same || worker.class != class)
        {
            return;
        }
        let generation = monotonic_ns();
        let target = Target {
            generation,
            ..of_master
        };
        let set = self
            .programs
            .maps
            .set_target(worker.pid, Role::Worker, target);
        let set = set.and_then(|()| self.programs.maps.set_gil_as(worker.pid, worker.master_pid));
        if let Err(error) = set {
            tracing::warn!("{error:#}");
        }
    }

    /// Follows the forks, signals and exit of a process of a dirty pool, as of a master: it serves no HTTP.
    fn observe_dirty(&mut self, dirty: &fact::Dirty) {
        self.candidates.remove(&dirty.pid);
        let Some(of_master) = self.programs.maps.target(dirty.master_pid) else {
            return;
        };
        if self.role(dirty.pid) == Some(Role::Master) {
            return;
        }
        let target = Target {
            generation: monotonic_ns(),
            ..of_master
        };
        let maps = &mut self.programs.maps;
        if let Err(error) = maps.set_target(dirty.pid, Role::Master, target) {
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

fn log_observed(found: &FoundMaster) {
    let reason = found.coverage.reason().for_terminal(REASON_CHARS);
    tracing::info!(
        pid = found.master.pid,
        app = found.master.app,
        class = found.master.worker_class,
        python = found.master.python_version,
        gunicorn = found.master.gunicorn_version,
        level = found.coverage.level().as_str(),
        reason = (!reason.is_empty()).then_some(reason),
        "observing Gunicorn master"
    );
}

/// What is not seen without a hook, and why.
fn unseen(hook: PythonHook, error: &anyhow::Error) -> String {
    let what = match hook {
        PythonHook::DatetimeNow => "requests",
        PythonHook::TaskCreated => "requests in tasks",
        PythonHook::ExceptionAsked | PythonHook::TracebackRead => "handled exceptions",
        PythonHook::TracebackHere => "exceptions in deep captures",
        PythonHook::GcBegins | PythonHook::GcEnds => "garbage collections",
    };
    format!("{what} are not seen: {error:#}")
}

fn join_reasons(reasons: [&str; 2]) -> String {
    let reasons = reasons.into_iter().filter(|reason| !reason.is_empty());
    reasons.collect::<Vec<_>>().join("; ")
}
