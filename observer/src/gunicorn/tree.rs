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
use crate::kubernetes::Directory;
use crate::kubernetes::pod;
use crate::process::maps;
use crate::process::memory::{ProcessMemory, Snapshot};
use crate::process::procfs::{ProcFs, Process};
use observer_model::event::Pid;
use observer_model::fact;
use probe_ebpf::memory::Fault;

/// What looks like Gunicorn and has a child this old is a master: one that becomes
/// a daemon has children too, but ends at once.
const SETTLED_NS: u64 = 500_000_000;

/// Tracepoints of system calls leave out those of 32-bit processes
/// (`arch_trace_is_compat_syscall`, `arch/x86/include/asm/ftrace.h`).
const NO_COMPAT_CALLS: &str =
    "and its system calls are not seen: it is a 32-bit process, whose calls have no tracepoints";

/// Finds masters and workers; remembers what it learnt about files.
#[derive(Debug)]
pub struct Tree {
    procfs: ProcFs,
    files: Files,
    pods: Pods,
}

/// What is known of pods beside what the node tells.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    /// Empty where nobody asks the API server.
    pub directory: Directory,
    /// The name of this node; empty when not known.
    pub node: String,
}

/// A process whose main thread is in `Arbiter.run`.
struct Running {
    runtime: Runtime,
    arbiter: Arbiter,
    memory: Snapshot<ProcessMemory>,
}

impl Tree {
    /// The processes of this host.
    ///
    /// # Errors
    /// When the kernel does not tell its clock tick.
    pub fn of_host() -> anyhow::Result<Self> {
        Ok(Self::new(ProcFs::of_host()?))
    }

    /// DeepCaptures at the processes of this proc file system.
    #[must_use]
    pub fn new(procfs: ProcFs) -> Self {
        Self {
            procfs,
            files: Files::default(),
            pods: Pods::default(),
        }
    }

    /// Names pods by this, too.
    #[must_use]
    pub fn with_pods(self, pods: Pods) -> Self {
        Self { pods, ..self }
    }

    /// The processes it looks at.
    #[must_use]
    pub fn procfs(&self) -> &ProcFs {
        &self.procfs
    }

    /// DeepCaptures at every process there is, but for those `known`.
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
                    scan.masters.push(*found);
                }
            }
        }
        Ok(scan)
    }

    /// Whether a process could become a master, as far as its command line and program tell.
    #[must_use]
    pub fn may_be_master(&mut self, pid: Pid) -> bool {
        let command = self.procfs.command_line(pid).unwrap_or_default();
        self.hint(pid, &command) != Hint::Other
    }

    /// What its command line suggests, or else that its program is a Python of another name.
    fn hint(&mut self, pid: Pid, command: &[Vec<u8>]) -> Hint {
        let arguments = || command.iter().map(Vec::as_slice);
        match cmdline::hint(arguments()) {
            Hint::Other if self.files.is_interpreter(self.procfs.root(), pid) => {
                cmdline::hint_of_python(arguments().skip(1))
            }
            hint => hint,
        }
    }

    /// The interpreter of a process, whatever runs in it.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn interpreter(&mut self, pid: Pid) -> Result<Interpreter, InspectError> {
        let runtime = Runtime::find(pid, self.procfs.root(), &mut self.files)?;
        Interpreter::complete(&runtime, &mut self.files)
    }

    /// The file that holds the interpreter of a process, also of one that cannot be read.
    pub fn interpreter_path(&mut self, pid: Pid) -> Option<InterpreterPath> {
        InterpreterPath::of(pid, self.procfs.root(), &mut self.files)
    }

    /// DeepCaptures at one process.
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
            // Without the hint there is nothing to say it could be Gunicorn at all.
            _ if hint == Hint::Other => Candidate::NotGunicorn,
            // The stack of a busy worker changes while it is read.
            InspectError::NotReady(reason) => match self.master_of(process) {
                Some(master) => Candidate::WorkerOf(master),
                None => Candidate::NotReady {
                    reason: reason.to_owned(),
                    is_read: hint != Hint::Gunicorn,
                },
            },
            _ if hint != Hint::Gunicorn => Candidate::NotGunicorn,
            InspectError::NotPython => Candidate::NotReady {
                reason: "the interpreter is not loaded yet".to_owned(),
                is_read: true,
            },
            InspectError::Unsupported { version, reason } => {
                self.by_hint(process, &command, version, reason)
            }
            error @ InspectError::Io { .. } => Candidate::Refused {
                reason: error.to_string(),
            },
        }
    }

    /// The workers a master has now; one that just went or came may be missing.
    ///
    /// # Errors
    /// [`InspectError::Gone`] when the master went; another when its memory
    /// changed while it was read, or may not be read.
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
                "its workers changed while being read",
            )
        })?;
        Ok(self.workers(master.pid, entries))
    }

    /// The settings a master has now, after HUP, TTIN or TTOU, and how it can be
    /// observed with them.
    ///
    /// # Errors
    /// As [`Tree::refresh_workers`].
    pub fn refresh_master(
        &self,
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
        // Each setting that cannot be read is absent, and all of them are when the process goes.
        if master.worker_class.is_empty() && !old.worker_class.is_empty() {
            let what = "its settings changed while being read";
            return Err(InspectError::fault(memory.inner(), old.pid, what));
        }
        let own_way = reader.arbiter.own_way(&objects).map_err(|Fault| {
            let what = "its worker class changed while it was read";
            InspectError::fault(memory.inner(), old.pid, what)
        })?;
        Ok((master, Coverage::of(&found.interpreter, Ok(own_way))))
    }

    /// That the master's pid is still its own.
    fn still(&self, master: &fact::Master) -> Result<Process, InspectError> {
        match self.procfs.process(master.pid) {
            Ok(process) if process.started_ns == master.started_ns && !process.is_zombie => {
                Ok(process)
            }
            _ => Err(InspectError::Gone),
        }
    }

    /// Reads a process up to `Arbiter.run`; `None` for a Python that is not in it.
    fn running(&mut self, pid: Pid) -> Result<Option<Running>, InspectError> {
        let runtime = Runtime::find(pid, self.procfs.root(), &mut self.files)?;
        let memory = Snapshot::new(ProcessMemory::new(pid));
        let objects = Objects::new(&memory, &runtime.layout);
        let arbiter = Arbiter::find(&objects, runtime.address).map_err(|Fault| {
            InspectError::fault(memory.inner(), pid, "its stack changed while it was read")
        })?;
        Ok(arbiter.map(|arbiter| Running {
            runtime,
            arbiter,
            memory,
        }))
    }

    /// Whether the arbiter on its stack is the process itself, not what it was forked from.
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
            // `Arbiter.run` is there, and with it all that Gunicorn imports.
            Err(InspectError::NotReady(target::NO_MODULE)) => {
                Err("datetime.now is not found in its interpreter".to_owned())
            }
            Err(InspectError::NotReady(reason)) => {
                return Candidate::NotReady {
                    reason: reason.to_owned(),
                    is_read: true,
                };
            }
            Err(error) => Err(error.to_string()),
        };
        let Ok(entries) = arbiter.workers(&objects) else {
            let reason = "its workers changed while they were read".to_owned();
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
                &version,
            )),
            workers,
            objects: worker_objects,
            coverage: Coverage::of(&interpreter, arbiter.own_way(&objects)),
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
            (None, false, Hint::Gunicorn) => "Gunicorn's arbiter does not run in it yet",
            (None, false, _) => return Candidate::NotGunicorn,
        };
        Candidate::NotReady {
            reason: reason.to_owned(),
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

    /// DeepCaptures at a process that calls itself Gunicorn, but whose memory was never
    /// once as its interpreter's layout says, for this reason.
    pub fn inspect_unread(&self, pid: Pid, reason: &str) -> Candidate {
        let Ok(process) = self.procfs.process(pid) else {
            return Candidate::NotGunicorn;
        };
        let command = self.procfs.command_line(pid).unwrap_or_default();
        let reason = format!("its layout fails its self-test: {reason}");
        self.by_hint(process, &command, String::new(), reason)
    }

    /// What can be told about a process whose memory is not understood.
    fn by_hint(
        &self,
        process: Process,
        command: &[Vec<u8>],
        version: String,
        reason: String,
    ) -> Candidate {
        let parent = self.procfs.command_line(process.parent).unwrap_or_default();
        // A master that an upgrade started is a child too, but began its program anew.
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
                reason: "it has no workers yet".to_owned(),
                is_read: true,
            };
        }
        let master = fact::Master {
            pid: process.pid,
            started_ns: process.started_ns,
            app: cmdline::app(command.iter().map(Vec::as_slice)),
            worker_class: cmdline::worker_class(command.iter().map(Vec::as_slice)),
            python_version: version,
            ..fact::Master::default()
        };
        let coverage = if self.procfs.is_32_bit(process.pid) {
            Coverage::None(format!("{reason}; {NO_COMPAT_CALLS}"))
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

    /// A master with the container it is in, in which it forks its workers.
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

    /// What a master's pod is called now: what the API server says wins, where it is asked.
    #[must_use]
    pub fn named(&self, master: &fact::Master) -> Box<fact::Pod> {
        if master.pod_uid.is_empty() {
            return master.pod.clone();
        }
        let told = self
            .pods
            .directory
            .find(&master.pod_uid, &master.container_id);
        let mut pod = told.unwrap_or_else(|| (*master.pod).clone());
        if pod.container.is_empty() {
            pod.container.clone_from(&master.pod.container);
        }
        if pod.node.is_empty() {
            pod.node.clone_from(&self.pods.node);
        }
        Box::new(pod)
    }

    /// Whether a child runs on where its parent was when it forked: libraries are mapped where
    /// they were. A program that is begun anew has them elsewhere.
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

    /// Ties what the master knows, in pids of its own namespace, to its children.
    fn workers(
        &self,
        master_pid: Pid,
        entries: Vec<WorkerEntry>,
    ) -> (Vec<fact::Worker>, WorkerObjects) {
        let mut objects = WorkerObjects::new();
        let depth = self
            .procfs
            .namespace_pids(master_pid)
            .map_or(0, |pids| pids.len());
        let mut children: HashMap<Pid, Process> = HashMap::new();
        for child in self.procfs.children(master_pid).unwrap_or_default() {
            let pids = self.procfs.namespace_pids(child.pid).unwrap_or_default();
            let seen_by_master = depth.checked_sub(1).and_then(|level| pids.get(level));
            children.extend(seen_by_master.map(|&pid| (pid, child)));
        }
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
