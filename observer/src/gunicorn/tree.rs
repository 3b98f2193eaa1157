//! Masters with their workers.

use std::collections::{HashMap, HashSet};
use std::io;

use super::cmdline::{self, Hint};
use super::found::Reader;
pub use super::found::{Candidate, Coverage, FoundMaster, Scan, WorkerObjects};
use crate::clock::monotonic_ns;
use crate::cpython::files::Files;
use crate::cpython::object::Objects;
use crate::cpython::target;
use crate::cpython::target::{InspectError, Interpreter, InterpreterPath, Runtime};
use crate::gunicorn::arbiter::{Arbiter, WorkerEntry};
use crate::gunicorn::handling::Handling;
use crate::kubernetes::Directory;
use crate::kubernetes::pod;
use crate::process::maps;
use crate::process::memory::{ProcessMemory, Snapshot};
use crate::process::procfs::{ProcFs, Process};
use observer_model::Untrusted;
use observer_model::event::Pid;
use observer_model::fact;
use observer_model::fact::DirtyRole;
use probe_ebpf::memory::Fault;

/// A process that looks like Gunicorn and has a child this old is a master: one that becomes a
/// daemon has children too, but exits at once.
const SETTLED_NS: u64 = 500_000_000;

/// Dirty workers of one master that are followed: no Gunicorn has as many.
const MAX_DIRTY_WORKERS: usize = 1024;

/// Tracepoints of system calls leave out those of 32-bit processes
/// (`arch_trace_is_compat_syscall`, `arch/x86/include/asm/ftrace.h`).
const NO_COMPAT_CALLS: &str =
    "its system calls are not seen: 32-bit processes have no tracepoints for them";

/// Finds masters and workers; caches what files hold.
#[derive(Debug)]
pub struct Tree {
    procfs: ProcFs,
    files: Files,
    pods: Pods,
}

/// Names of pods that the node itself does not have.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    /// From the API server; empty if it is not asked.
    pub directory: Directory,
    /// The name of this node; empty if unknown.
    pub node: String,
}

/// A process with an arbiter.
struct Running {
    runtime: Runtime,
    arbiter: Arbiter,
    memory: Snapshot<ProcessMemory>,
}

impl Tree {
    /// The processes of this host.
    ///
    /// # Errors
    /// If the kernel does not report its clock tick.
    pub fn of_host() -> anyhow::Result<Self> {
        Ok(Self::new(ProcFs::of_host()?))
    }

    /// The processes of this proc file system.
    #[must_use]
    pub fn new(procfs: ProcFs) -> Self {
        Self {
            procfs,
            files: Files::default(),
            pods: Pods::default(),
        }
    }

    /// Names pods from these sources, too.
    #[must_use]
    pub fn with_pods(self, pods: Pods) -> Self {
        Self { pods, ..self }
    }

    /// The proc file system that it reads.
    #[must_use]
    pub fn procfs(&self) -> &ProcFs {
        &self.procfs
    }

    /// Reads every process except those `known`.
    ///
    /// # Errors
    /// When processes cannot be listed.
    pub fn scan(&mut self, mut known: HashSet<Pid>) -> io::Result<Scan> {
        let mut scan = Scan::default();
        for pid in self.procfs.pids()? {
            if known.contains(&pid) {
                continue;
            }
            match self.inspect_candidate(pid) {
                Candidate::NotGunicorn if self.may_be_master(pid) => scan.bystanders.push(pid),
                Candidate::NotGunicorn | Candidate::WorkerOf(_) => {}
                Candidate::NotReady { reason, .. } => scan.not_ready.push((pid, reason)),
                Candidate::Refused { reason } => scan.refused.push((pid, reason)),
                Candidate::Master(found) => {
                    known.extend(found.workers.iter().map(|worker| worker.pid));
                    known.insert(pid);
                    scan.masters.push(*found);
                }
            }
        }
        let unread = scan.not_ready.iter().chain(&scan.refused);
        let found = unread.filter_map(|(pid, reason)| self.unobserved(*pid, reason, &known));
        scan.unobserved = found.collect();
        Ok(scan)
    }

    /// A process that calls itself Gunicorn but is not observed, for this reason. `None` if it calls itself
    /// something else, or is a child of a Gunicorn, `known`.
    pub fn unobserved(
        &self,
        pid: Pid,
        reason: &Untrusted,
        known: &HashSet<Pid>,
    ) -> Option<FoundMaster> {
        let process = self.procfs.process(pid).ok()?;
        let command = self.procfs.command_line(pid).unwrap_or_default();
        if process.is_zombie
            || !calls_itself_gunicorn(&command)
            || self.descends_from_gunicorn(process, known)
        {
            return None;
        }
        Some(FoundMaster {
            master: self.contained(by_command(process, &command)),
            workers: Vec::new(),
            objects: WorkerObjects::new(),
            coverage: Coverage::None(reason.clone()),
            interpreter: Err(reason.clone()),
            reader: None,
        })
    }

    fn descends_from_gunicorn(&self, mut process: Process, known: &HashSet<Pid>) -> bool {
        /// Longer chains are not followed.
        const GENERATIONS: usize = 32;
        for _ in 0..GENERATIONS {
            let command = self.procfs.command_line(process.parent).unwrap_or_default();
            if known.contains(&process.parent) || calls_itself_gunicorn(&command) {
                return true;
            }
            match self.procfs.process(process.parent) {
                Ok(parent) if parent.pid > 1 => process = parent,
                _ => return false,
            }
        }
        false
    }

    /// Whether a process could become a master, by its command line and executable.
    #[must_use]
    pub fn may_be_master(&mut self, pid: Pid) -> bool {
        let command = self.procfs.command_line(pid).unwrap_or_default();
        self.hint(pid, &command) != Hint::Other
    }

    /// The hint of the command line; an executable that is a Python of another name counts as one.
    fn hint(&mut self, pid: Pid, command: &[Vec<u8>]) -> Hint {
        let arguments = || command.iter().map(Vec::as_slice);
        match cmdline::hint(arguments()) {
            Hint::Other if self.files.runs_python(self.procfs.root(), pid) => {
                cmdline::hint_of_python(arguments().skip(1))
            }
            hint => hint,
        }
    }

    /// The interpreter of a process, whatever program it runs.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn interpreter(&mut self, pid: Pid) -> Result<Interpreter, InspectError> {
        let runtime = Runtime::find(pid, self.procfs.root(), &mut self.files)?;
        Interpreter::complete(&runtime, &mut self.files)
    }

    /// The file that holds the interpreter of a process, also if that cannot be read.
    pub fn interpreter_path(&mut self, pid: Pid) -> Option<InterpreterPath> {
        InterpreterPath::of(pid, self.procfs.root(), &mut self.files)
    }

    /// Reads one process.
    pub fn inspect_candidate(&mut self, pid: Pid) -> Candidate {
        let Ok(process) = self.procfs.process(pid) else {
            return Candidate::NotGunicorn;
        };
        let command = self.procfs.command_line(pid).unwrap_or_default();
        let hint = self.hint(pid, &command);
        let error = match self.running(pid) {
            Ok(Some(running)) if self.is_of(&running, pid) => return self.master(process, running),
            Ok(running) => return self.worker_or_other(process, hint, running.is_some()),
            Err(error) => error,
        };
        match error {
            InspectError::NotPython | InspectError::Gone if hint != Hint::Gunicorn => {
                Candidate::NotGunicorn
            }
            InspectError::Gone => Candidate::NotGunicorn,
            // Without the hint nothing suggests Gunicorn.
            _ if hint == Hint::Other => Candidate::NotGunicorn,
            // What a busy process changes may be read halfway.
            InspectError::NotReady(reason) => match self.master_of(process) {
                Some(master) => Candidate::WorkerOf(master),
                None => Candidate::NotReady {
                    reason: reason.into(),
                    is_read: hint != Hint::Gunicorn,
                },
            },
            _ if hint != Hint::Gunicorn => Candidate::NotGunicorn,
            InspectError::NotPython => Candidate::NotReady {
                reason: "the interpreter is not loaded yet".into(),
                is_read: true,
            },
            InspectError::Unsupported { version, reason } => {
                self.by_hint(process, &command, version, reason)
            }
            error @ InspectError::Io { .. } => Candidate::Refused {
                reason: error.reason(),
            },
        }
    }

    /// The current workers of a master; one that just started or exited may be missing.
    ///
    /// # Errors
    /// [`InspectError::Gone`] when the master exited; another when its memory changed while it was
    /// read, or must not be read.
    pub fn refresh_workers(
        &self,
        found: &FoundMaster,
    ) -> Result<(Vec<fact::Worker>, WorkerObjects), InspectError> {
        let master = &found.master;
        let process = self.still(master)?;
        let Some(reader) = found.reader else {
            return Ok((self.children_as_workers(process), WorkerObjects::new()));
        };
        let memory = Snapshot::new(ProcessMemory::new(master.pid));
        let objects = Objects::new(&memory, &reader.layout);
        let entries = reader.arbiter.workers(&objects).map_err(|Fault| {
            InspectError::fault(
                memory.inner(),
                master.pid,
                "its workers changed while they were read",
            )
        })?;
        Ok(self.workers(master.pid, entries))
    }

    /// The processes of a master's dirty pool: its dirty arbiter, and the children of that.
    #[must_use]
    pub fn dirty_pool(&self, found: &FoundMaster) -> Vec<fact::Dirty> {
        let master_pid = found.master.pid;
        let dirty = |process: Process, role| fact::Dirty {
            pid: process.pid,
            master_pid,
            role,
            parent: process.parent,
            started_ns: process.started_ns,
        };
        let pid = found.reader.and_then(|reader| {
            let memory = Snapshot::new(ProcessMemory::new(master_pid));
            let objects = Objects::new(&memory, &reader.layout);
            reader.arbiter.dirty_arbiter(&objects)
        });
        let arbiter = pid.and_then(|pid| self.children_as_seen(master_pid).remove(&pid));
        // A worker is none, whatever the memory of the master says.
        let is_worker = |it: &Process| found.workers.iter().any(|worker| worker.pid == it.pid);
        let Some(arbiter) = arbiter.filter(|it| !is_worker(it)) else {
            return Vec::new();
        };
        let workers = self.procfs.children(arbiter.pid).unwrap_or_default();
        let workers = workers.into_iter().take(MAX_DIRTY_WORKERS);
        let workers = workers.map(|process| dirty(process, DirtyRole::Worker));
        std::iter::once(dirty(arbiter, DirtyRole::Arbiter))
            .chain(workers)
            .collect()
    }

    /// The current settings of a master, after HUP, TTIN or TTOU, and its coverage with them.
    ///
    /// # Errors
    /// As [`Tree::refresh_workers`].
    pub fn refresh_master(
        &mut self,
        found: &FoundMaster,
    ) -> Result<(fact::Master, Coverage), InspectError> {
        let old = &found.master;
        self.still(old)?;
        let Some(reader) = found.reader else {
            return Ok((old.clone(), found.coverage.clone()));
        };
        let memory = Snapshot::new(ProcessMemory::new(old.pid));
        let objects = Objects::new(&memory, &reader.layout);
        let master = describe(
            &objects,
            &reader.arbiter,
            old.pid,
            old.started_ns,
            &old.python_version,
        );
        let master = fact::Master {
            container_id: old.container_id.clone(),
            container_runtime: old.container_runtime.clone(),
            pod_uid: old.pod_uid.clone(),
            pod: self.named(old),
            ..master
        };
        // A setting that cannot be read is absent; all are when the process exits.
        if master.worker_class.is_empty() && !old.worker_class.is_empty() {
            let what = "its settings changed while they were read";
            return Err(InspectError::fault(memory.inner(), old.pid, what));
        }
        let handling = reader.arbiter.handling(&objects).map_err(|Fault| {
            let what = "its worker class changed while it was read";
            InspectError::fault(memory.inner(), old.pid, what)
        })?;
        let coverage = match &found.interpreter {
            // A reload to a server on asyncio loads it.
            Ok(known) if matches!(handling, Handling::Tasks(_)) && known.tasks.is_err() => {
                let runtime = Runtime::find(old.pid, self.procfs.root(), &mut self.files)?;
                let interpreter = Interpreter::complete(&runtime, &mut self.files)?;
                Coverage::of(&Ok(interpreter), Ok(handling))
            }
            interpreter => Coverage::of(interpreter, Ok(handling)),
        };
        Ok((master, coverage))
    }

    /// Checks that the PID still belongs to the master.
    fn still(&self, master: &fact::Master) -> Result<Process, InspectError> {
        match self.procfs.process(master.pid) {
            Ok(process) if process.started_ns == master.started_ns && !process.is_zombie => {
                Ok(process)
            }
            _ => Err(InspectError::Gone),
        }
    }

    /// Reads a process up to its arbiter; `None` if it has none.
    fn running(&mut self, pid: Pid) -> Result<Option<Running>, InspectError> {
        let runtime = Runtime::find(pid, self.procfs.root(), &mut self.files)?;
        let memory = Snapshot::new(ProcessMemory::new(pid));
        let objects = Objects::new(&memory, &runtime.layout);
        let handlers = runtime.signal_handlers(&mut self.files)?;
        let arbiter = Arbiter::find(&objects, &handlers).map_err(|Fault| {
            InspectError::fault(memory.inner(), pid, "its arbiter changed while it was read")
        })?;
        Ok(arbiter.map(|arbiter| Running {
            runtime,
            arbiter,
            memory,
        }))
    }

    /// Whether the arbiter is that of the process, not of its parent.
    fn is_of(&self, running: &Running, pid: Pid) -> bool {
        let own = self
            .procfs
            .namespace_pids(pid)
            .ok()
            .and_then(|pids| pids.last().copied());
        own.is_some() && running.arbiter.pid == own.map(i64::from)
    }

    fn master(&mut self, process: Process, running: Running) -> Candidate {
        let Running {
            runtime,
            arbiter,
            memory,
        } = running;
        let pid = process.pid;
        let objects = Objects::new(&memory, &runtime.layout);
        let interpreter = match Interpreter::complete(&runtime, &mut self.files) {
            Ok(interpreter) => Ok(interpreter),
            Err(InspectError::Gone) => return Candidate::NotGunicorn,
            // An arbiter handles signals, so everything that Gunicorn imports is loaded.
            Err(InspectError::NotReady(target::NO_MODULE)) => {
                Err("datetime.now is not found in its interpreter".into())
            }
            Err(InspectError::NotReady(reason)) => {
                return Candidate::NotReady {
                    reason: reason.into(),
                    is_read: true,
                };
            }
            Err(error) => Err(error.reason()),
        };
        let Ok(entries) = arbiter.workers(&objects) else {
            let reason = "its workers changed while they were read".into();
            return Candidate::NotReady {
                reason,
                is_read: true,
            };
        };
        let version = runtime.release(&objects);
        let (workers, worker_objects) = self.workers(pid, entries);
        Candidate::Master(Box::new(FoundMaster {
            master: self.contained(describe(
                &objects,
                &arbiter,
                pid,
                process.started_ns,
                version.raw(),
            )),
            workers,
            objects: worker_objects,
            coverage: Coverage::of(&interpreter, arbiter.handling(&objects)),
            interpreter,
            reader: Some(Reader {
                layout: runtime.layout,
                arbiter,
            }),
        }))
    }

    /// A Python process that is no master.
    fn worker_or_other(&mut self, process: Process, hint: Hint, has_arbiter: bool) -> Candidate {
        let reason = match (self.master_of(process), has_arbiter, hint) {
            (Some(master), _, _) => return Candidate::WorkerOf(master),
            (None, true, _) => "its master does not know it, or the master is still starting",
            (None, false, Hint::Gunicorn) => "it has no arbiter of Gunicorn yet",
            (None, false, _) => return Candidate::NotGunicorn,
        };
        Candidate::NotReady {
            reason: reason.into(),
            is_read: true,
        }
    }

    /// The parent of a process, if that is a master which knows it as a worker.
    fn master_of(&mut self, process: Process) -> Option<Pid> {
        let parent = process.parent;
        let running = self.running(parent).ok()??;
        if !self.is_of(&running, parent) {
            return None;
        }
        let objects = Objects::new(&running.memory, &running.runtime.layout);
        let (workers, _) = self.workers(parent, running.arbiter.workers(&objects).ok()?);
        let knows = workers.iter().any(|worker| worker.pid == process.pid);
        knows.then_some(parent)
    }

    /// Reads a process that calls itself Gunicorn, and whose memory never matched the layout of its
    /// interpreter, for this reason.
    pub fn inspect_unread(&self, pid: Pid, reason: &Untrusted) -> Candidate {
        let Ok(process) = self.procfs.process(pid) else {
            return Candidate::NotGunicorn;
        };
        let command = self.procfs.command_line(pid).unwrap_or_default();
        let reason = format!("its layout fails the self-test: {}", reason.raw());
        self.by_hint(process, &command, String::new(), reason.into())
    }

    /// A process whose memory cannot be read, by its command line.
    fn by_hint(
        &self,
        process: Process,
        command: &[Vec<u8>],
        version: String,
        reason: Untrusted,
    ) -> Candidate {
        let parent = self.procfs.command_line(process.parent).unwrap_or_default();
        // The new master of an upgrade (USR2) is a child too, but executed its program again.
        if cmdline::hint(parent.iter().map(Vec::as_slice)) == Hint::Gunicorn
            && self.is_fork_of(process.pid, process.parent)
        {
            return Candidate::WorkerOf(process.parent);
        }
        let workers = self.children_as_workers(process);
        let now_ns = monotonic_ns();
        let has_settled = |w: &fact::Worker| now_ns.saturating_sub(w.started_ns) > SETTLED_NS;
        if !workers.iter().any(has_settled) {
            return Candidate::NotReady {
                reason: "it has no workers yet".into(),
                is_read: true,
            };
        }
        let master = fact::Master {
            python_version: version,
            ..by_command(process, command)
        };
        let coverage = if self.procfs.is_32_bit(process.pid) {
            Coverage::None(format!("{}; {NO_COMPAT_CALLS}", reason.raw()).into())
        } else {
            Coverage::Socket(reason.clone())
        };
        Candidate::Master(Box::new(FoundMaster {
            master: self.contained(master),
            workers,
            objects: WorkerObjects::new(),
            coverage,
            interpreter: Err(reason),
            reader: None,
        }))
    }

    /// The master with its container, which its workers share.
    fn contained(&self, master: fact::Master) -> fact::Master {
        let Some(container) = self.procfs.container(master.pid) else {
            return master;
        };
        let runtime = container.runtime.map(|runtime| runtime.as_str().to_owned());
        let in_pod = container.pod_uid.is_some();
        let find = || pod::find(self.procfs.root(), master.pid, &container.id);
        let pod = Box::new(in_pod.then(find).unwrap_or_default());
        let master = fact::Master {
            container_id: container.id,
            container_runtime: runtime.unwrap_or_default(),
            pod_uid: container.pod_uid.unwrap_or_default(),
            pod,
            ..master
        };
        fact::Master {
            pod: self.named(&master),
            ..master
        }
    }

    /// The current names of a master's pod: those of the API server win.
    #[must_use]
    pub fn named(&self, master: &fact::Master) -> Box<fact::Pod> {
        if master.pod_uid.is_empty() {
            return master.pod.clone();
        }
        let from_server = self
            .pods
            .directory
            .find(&master.pod_uid, &master.container_id);
        let mut pod = from_server.unwrap_or_else(|| (*master.pod).clone());
        if pod.container.is_empty() {
            pod.container.clone_from(&master.pod.container);
        }
        if pod.node.is_empty() {
            pod.node.clone_from(&self.pods.node);
        }
        Box::new(pod)
    }

    /// Whether a child is a fork of its parent: its libraries are mapped at the same addresses. A
    /// program that was executed again has them elsewhere.
    fn is_fork_of(&self, child: Pid, parent: Pid) -> bool {
        let library = |pid| {
            let mappings = maps::read(self.procfs.root(), pid).unwrap_or_default();
            let mut libraries = mappings
                .into_iter()
                .filter(|mapping| mapping.file_name().contains(".so"));
            libraries
                .next()
                .map(|mapping| (mapping.path, mapping.start))
        };
        library(child) == library(parent)
    }

    fn children_as_workers(&self, master: Process) -> Vec<fact::Worker> {
        let children = self.procfs.children(master.pid).unwrap_or_default();
        let is_worker = |child: &Process| {
            let command = self.procfs.command_line(child.pid).unwrap_or_default();
            cmdline::hint(command.iter().map(Vec::as_slice)) == Hint::Gunicorn
                && self.is_fork_of(child.pid, master.pid)
        };
        let worker = |child: Process| fact::Worker {
            pid: child.pid,
            master_pid: master.pid,
            started_ns: child.started_ns,
            ..fact::Worker::default()
        };
        children.into_iter().filter(is_worker).map(worker).collect()
    }

    /// The children of a master, by their PIDs in its own namespace.
    fn children_as_seen(&self, master_pid: Pid) -> HashMap<Pid, Process> {
        let depth = self
            .procfs
            .namespace_pids(master_pid)
            .map_or(0, |pids| pids.len());
        let mut children = HashMap::new();
        for child in self.procfs.children(master_pid).unwrap_or_default() {
            let pids = self.procfs.namespace_pids(child.pid).unwrap_or_default();
            let seen_by_master = depth.checked_sub(1).and_then(|level| pids.get(level));
            children.extend(seen_by_master.map(|&pid| (pid, child)));
        }
        children
    }

    /// Matches the worker objects of a master, by PIDs of its own namespace, with its children.
    fn workers(
        &self,
        master_pid: Pid,
        entries: Vec<WorkerEntry>,
    ) -> (Vec<fact::Worker>, WorkerObjects) {
        let mut objects = WorkerObjects::new();
        let children = self.children_as_seen(master_pid);
        let worker = |entry: WorkerEntry| {
            let child = children.get(&entry.pid)?;
            objects.insert(child.pid, entry.object);
            Some(fact::Worker {
                pid: child.pid,
                master_pid,
                started_ns: child.started_ns,
                age: entry.age,
                class: entry.class,
            })
        };
        let mut workers: Vec<_> = entries.into_iter().filter_map(worker).collect();
        workers.sort_by_key(|worker| (worker.age, worker.pid));
        (workers, objects)
    }
}

fn calls_itself_gunicorn(command: &[Vec<u8>]) -> bool {
    cmdline::calls_itself_gunicorn(command.iter().map(Vec::as_slice))
}

/// A master whose memory is not read.
fn by_command(process: Process, command: &[Vec<u8>]) -> fact::Master {
    let arguments = || command.iter().map(Vec::as_slice);
    fact::Master {
        pid: process.pid,
        started_ns: process.started_ns,
        app: cmdline::app(arguments()),
        worker_class: cmdline::worker_class(arguments()),
        ..fact::Master::default()
    }
}

fn describe<M: probe_ebpf::memory::Memory>(
    objects: &Objects<'_, M>,
    arbiter: &Arbiter,
    pid: Pid,
    started_ns: u64,
    python_version: &str,
) -> fact::Master {
    let settings = arbiter.settings(objects);
    fact::Master {
        pid,
        started_ns,
        app: settings.app,
        gunicorn_version: settings.gunicorn_version,
        python_version: python_version.to_owned(),
        worker_class: settings.worker_class,
        workers: settings.workers,
        threads: settings.threads,
        timeout_seconds: settings.timeout_seconds,
        max_requests: settings.max_requests,
        bind: settings.bind,
        ..fact::Master::default()
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
