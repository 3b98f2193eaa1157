//! The loaded eBPF object: loads and attaches its programs, and hands out its maps and statistics.

use super::absent::{Absent, Refusal};
use super::attach::{attach_feature, attach_to_python};
use super::bpf_maps::{BpfMaps, take};
use super::detach::{Detacher, Link};
use super::features::{ACCEPTS, Backend, Feature, Need, PythonHook, When, chosen, of_hook};
use super::gil::GilWaits;
use super::in_flight::InFlightReader;
use super::interpreters::Interpreters;
use super::late::{Done, Late};
use super::load::LoadedObject;
use super::on_demand::{OnDemand, serves};
use super::program_info::ProgramInfo;
use super::program_stats::ProgramStats;
use super::status::Status;
use crate::cpython::error::REASON_CHARS;
use crate::cpython::target::{Interpreter, ProbePoint, Tasks};
use anyhow::{Result, anyhow, bail};
use aya::maps::{Array, MapData, RingBuf};
use observer_model::event::Pid;
use probe_ebpf::abi::Mode;
use std::collections::HashSet;

/// Owns the loaded object; dropping it detaches all programs.
pub struct Programs {
    /// Maps that userspace writes.
    pub maps: BpfMaps,
    object: LoadedObject,
    backend: Backend,
    /// The features of the backend.
    features: Vec<&'static Feature>,
    /// Features that other probes would have.
    left_out: Vec<&'static Feature>,
    /// Names of the features that were loaded, or rejected.
    loaded: HashSet<&'static str>,
    late: Late,
    /// Attachments for when their program is loaded.
    waiting: Vec<Waiting>,
    failures: Vec<LateFailure>,
    absent: Absent,
    /// How many of the absent features are logged.
    logged: usize,
    loads: Vec<Load>,
    status: Status,
    /// Attachments of the whole host.
    host: Vec<Link>,
    on_demand: OnDemand,
    interpreters: Interpreters,
    detacher: Detacher,
    /// Whether it is seen that connections are closed.
    sees_closes: bool,
}

/// The load of one program.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub feature: &'static Feature,
    pub program: &'static str,
    pub took_ns: u64,
}

/// An attachment to the interpreter of a process.
struct Waiting {
    pid: Pid,
    hook: PythonHook,
    points: Vec<ProbePoint>,
}

/// A hook that could not be attached for a process after its program was loaded.
#[derive(Debug)]
pub struct LateFailure {
    pub pid: Pid,
    pub hook: PythonHook,
    pub error: anyhow::Error,
}

impl Drop for Programs {
    fn drop(&mut self) {
        let mut links = std::mem::take(&mut self.host);
        links.extend(self.on_demand.take_links());
        links.extend(self.interpreters.take_links());
        self.detacher.detach_all(links);
    }
}

impl Programs {
    /// The object with its maps; no program is loaded yet. `full` is the backend that sees the most.
    ///
    /// # Errors
    /// When the object lacks a map.
    pub(super) fn new(mut object: LoadedObject, backend: Backend, full: Backend) -> Result<Self> {
        let features = chosen(backend);
        let is_left_out = |it: &&Feature| features.iter().all(|chosen| chosen.name != it.name);
        let left_out = chosen(full).into_iter().filter(is_left_out).collect();
        Ok(Self {
            maps: BpfMaps::take(&mut object.ebpf)?,
            object,
            backend,
            status: Status::new(&features),
            features,
            left_out,
            loaded: HashSet::new(),
            late: Late::default(),
            failures: Vec::new(),
            waiting: Vec::new(),
            absent: Absent::default(),
            logged: 0,
            loads: Vec::new(),
            host: Vec::new(),
            on_demand: OnDemand::default(),
            interpreters: Interpreters::default(),
            detacher: Detacher::default(),
            sees_closes: false,
        })
    }

    /// Loads and attaches the programs of the whole host, with those on GIL waits if `gil`, and loads
    /// those on interpreters; late features are left to [`Self::start_late`]. Logs each feature that
    /// this kernel does not support.
    ///
    /// # Errors
    /// When a required feature is absent.
    pub fn attach_host(&mut self, gil: bool) -> Result<()> {
        let features = self.features.iter().copied();
        let is_wanted = |feature: &&Feature| match feature.attached {
            When::Required | When::Always | When::Interpreter | When::DeepCapture => true,
            When::Gil => gil,
            When::Needed(_) | When::Tasks => false,
        };
        let (late, early): (Vec<_>, Vec<_>) = features.filter(is_wanted).partition(|it| it.is_late);
        self.object.preload(&early);
        for feature in early {
            self.load_and_attach(feature);
        }
        for feature in late {
            self.status.set_loading(feature, true);
            self.late.push((feature, self.object.own_names(feature)));
        }
        let mut features = self.features.iter();
        let has_accepts =
            features.any(|feature| feature.name == ACCEPTS) && !self.absent.has(ACCEPTS);
        self.sees_closes = has_accepts || self.backend == Backend::Syscalls;
        self.maps.set_mode(Mode::Accepts, has_accepts)?;
        if let Some(refusal) = self.absent.required() {
            bail!("{}; run `gunicorn-observer doctor`", refusal.why);
        }
        self.log_absent();
        Ok(())
    }

    /// Starts to load late features, in a thread.
    pub fn start_late(&mut self) {
        self.late.start(&self.object.code);
    }

    /// Whether the thread loads features: [`Self::take_late`] takes them.
    #[must_use]
    pub fn has_late(&self) -> bool {
        self.late.is_loading()
    }

    /// Attaches late features that are loaded by now, wherever they are waited for. Returns the
    /// attachments that failed.
    pub fn take_late(&mut self) -> Vec<LateFailure> {
        while let Some(done) = self.late.next() {
            self.take(done);
        }
        self.log_absent();
        std::mem::take(&mut self.failures)
    }

    fn take(&mut self, (feature, loadings): Done) {
        self.object.add_preloaded(loadings);
        self.load_and_attach(feature);
        let is_of_feature = |waiting: &mut Waiting| {
            of_hook(waiting.hook).is_some_and(|(it, _)| it.name == feature.name)
        };
        let waiting: Vec<_> = self.waiting.extract_if(.., is_of_feature).collect();
        for Waiting { pid, hook, points } in waiting {
            if let Err(error) = self.attach_for(pid, hook, &points) {
                self.failures.push(LateFailure { pid, hook, error });
            }
        }
    }

    /// Loads all late features now, before a process is observed.
    pub fn load_late(&mut self) {
        let late = self.late.take();
        self.object.preload(&late);
        for feature in late {
            self.load_and_attach(feature);
        }
        self.log_absent();
    }

    /// Loads every feature, attached to nothing.
    pub fn load_all(&mut self) {
        let features = self.features.clone();
        self.object.preload(&features);
        for feature in features {
            let _ = self.load_feature(feature);
        }
    }

    /// Loads a feature, and attaches it if it is one of the whole host.
    fn load_and_attach(&mut self, feature: &'static Feature) {
        if self.load_feature(feature).is_err()
            || matches!(
                feature.attached,
                When::Interpreter | When::DeepCapture | When::Tasks
            )
        {
            return;
        }
        match attach_feature(&mut self.object, feature) {
            Ok(links) => {
                self.host.extend(links);
                self.status.set_host(feature, true);
            }
            Err(refusal) => self.refuse(feature, &refusal),
        }
    }

    /// Loads the programs of several features at once, as far as they are not loaded yet.
    fn preload(&mut self, is_meant: impl Fn(&Feature) -> bool) {
        let features = self.features.iter().copied();
        let is_missing = |it: &&Feature| is_meant(it) && !self.loaded.contains(it.name);
        let missing: Vec<_> = features.filter(is_missing).collect();
        if !missing.is_empty() {
            self.object.preload(&missing);
        }
    }

    /// Makes sure that a feature is loaded.
    fn load_feature(&mut self, feature: &'static Feature) -> Result<(), Refusal> {
        while self.late.has(feature.name)
            && let Some(done) = self.late.wait(feature.name)
        {
            self.take(done);
        }
        if self.loaded.insert(feature.name) {
            self.status.set_loading(feature, false);
            match self.object.load(feature, &mut self.loads) {
                Ok(programs) => {
                    for program in programs {
                        self.status.add_program(program);
                    }
                }
                Err(refusal) => self.refuse(feature, &refusal),
            }
        }
        self.absent.why(feature).cloned().map_or(Ok(()), Err)
    }

    fn refuse(&mut self, feature: &'static Feature, refusal: &Refusal) {
        self.status.set_absent(feature, refusal);
        self.absent.add(feature, refusal.clone());
    }

    /// Logs absent features that are not logged yet.
    fn log_absent(&mut self) {
        for (feature, refusal) in self.absent.iter().skip(self.logged) {
            tracing::warn!(
                feature = feature.name,
                reason = refusal.why,
                effect = feature.without,
                "feature unavailable"
            );
        }
        self.logged = self.absent.iter().count();
    }

    /// Every feature of the backend, also absent ones.
    #[must_use]
    pub fn features(&self) -> &[&'static Feature] {
        &self.features
    }

    /// Features that the option `--probes` leaves out.
    #[must_use]
    pub fn left_out(&self) -> &[&'static Feature] {
        &self.left_out
    }

    /// Why functions of Python are hooked one by one; `None` if they are hooked by `uprobe_multi`.
    #[must_use]
    pub fn no_uprobe_multi(&self) -> Option<String> {
        let why = self.object.uprobe_multi.as_ref().err();
        why.map(|why| format!("{why:#}"))
    }

    /// Whether connections are seen at all.
    #[must_use]
    pub fn see_sockets(&self) -> bool {
        self.backend != Backend::EntryExit
    }

    /// The features that this kernel does not support.
    #[must_use]
    pub fn absent(&self) -> &Absent {
        &self.absent
    }

    /// Every program that was loaded or rejected, in order of time.
    #[must_use]
    pub fn loads(&self) -> &[Load] {
        &self.loads
    }

    /// What the kernel knows of a loaded program; `None` if it is not loaded.
    #[must_use]
    pub fn info(&self, program: &str) -> Option<ProgramInfo> {
        self.object.fd(program).map(ProgramInfo::of)
    }

    /// Forwards log lines of the programs to the observer's log, until the runtime ends.
    ///
    /// # Errors
    /// When the programs were built without logging.
    #[cfg(feature = "probe-log")]
    pub fn start_log(&mut self) -> Result<()> {
        super::log::start(&mut self.object.ebpf)
    }

    /// The ring buffer of the records. It can be taken once.
    ///
    /// # Errors
    /// When the object lacks it, or it was taken.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>> {
        take(&mut self.object.ebpf, "EVENTS")
    }

    /// The alarm of the ring buffer. It can be taken once.
    ///
    /// # Errors
    /// When the object lacks it, or it was taken.
    pub fn take_alarm(&mut self) -> Result<Array<MapData, u32>> {
        take(&mut self.object.ebpf, "ALARM")
    }

    /// The statistics of the programs. They can be taken once.
    ///
    /// # Errors
    /// When the object lacks the counters, or they were taken.
    pub fn take_stats(&mut self) -> Result<ProgramStats> {
        ProgramStats::take(&mut self.object.ebpf, self.status.clone())
    }

    /// A reader of GIL waits. It can be taken once.
    ///
    /// # Errors
    /// When the object lacks a map, or it was taken.
    pub fn take_gil_waits(&mut self) -> Result<GilWaits> {
        GilWaits::take(&mut self.object.ebpf)
    }

    /// A reader of requests in flight.
    ///
    /// # Errors
    /// When the object lacks a map.
    pub fn in_flight(&self) -> Result<InFlightReader> {
        InFlightReader::new(&self.object.ebpf, self.sees_closes)
    }

    /// Attaches the program on a function of Python at one place.
    ///
    /// # Errors
    /// When the file cannot be opened, or the kernel rejected the program or refuses to attach it.
    pub fn attach_at(&mut self, hook: PythonHook, point: &ProbePoint) -> Result<Vec<Link>> {
        self.load_hook(hook)?;
        attach_to_python(&mut self.object, hook, &[point])
    }

    /// Makes sure that the requests of a process are seen.
    ///
    /// # Errors
    /// As [`Self::attach_at`].
    pub fn attach_requests(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let now = std::slice::from_ref(&interpreter.now);
        self.attach_for(pid, PythonHook::DatetimeNow, now)
    }

    /// Makes sure that handled exceptions of a process are seen, as far as its interpreter has the
    /// functions: later, if the program is a late one. [`Interpreter::shortcomings`] names missing
    /// functions.
    ///
    /// # Errors
    /// As [`Self::attach_at`].
    pub fn attach_exceptions(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let points = interpreter.handled.as_deref().unwrap_or_default();
        self.attach_or_wait(pid, PythonHook::ExceptionAsked, points)
    }

    /// Makes sure that it is seen which tasks of a process serve requests.
    ///
    /// # Errors
    /// As [`Self::attach_at`], or when the interpreter has no tasks.
    pub fn attach_tasks(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let created = std::slice::from_ref(&tasks_of(interpreter)?.created);
        self.preload(|feature| feature.attached == When::Tasks);
        self.attach_for(pid, PythonHook::TaskCreated, created)
    }

    /// Makes sure that it is seen whose exceptions are read, as servers on asyncio do to log them.
    ///
    /// # Errors
    /// As [`Self::attach_tasks`].
    pub fn attach_tracebacks(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let read = std::slice::from_ref(&tasks_of(interpreter)?.traceback_read);
        self.attach_for(pid, PythonHook::TracebackRead, read)
    }

    /// Makes sure that the garbage collections of a process are seen, as far as the functions of its
    /// interpreter are found.
    ///
    /// # Errors
    /// As [`Self::attach_at`], or when another interpreter has these attachments.
    pub fn attach_gc(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let Ok(collector) = &interpreter.collector else {
            return Ok(());
        };
        if self.object.uprobe_multi.is_err() {
            self.interpreters.allow_gc(collector)?;
        }
        // Ends first: a collection that is seen to begin is also seen to end.
        self.attach_for(pid, PythonHook::GcEnds, &collector.ends)?;
        self.attach_for(pid, PythonHook::GcBegins, &collector.begins)
    }

    /// Starts to capture every frame that an exception of a process leaves.
    ///
    /// # Errors
    /// As [`Self::attach_at`], or when the interpreter lacks the function.
    pub fn attach_deep_capture(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let point = interpreter.deep_capture.as_ref();
        let point = point.map_err(|why| anyhow!(why.for_terminal(REASON_CHARS)))?;
        let point = std::slice::from_ref(point);
        self.attach_for(pid, PythonHook::TracebackHere, point)
    }

    /// Makes sure that the programs for a need are loaded and attached, for a master and its workers.
    ///
    /// # Errors
    /// When the kernel rejected a program or refuses to attach it: the first of them. The other
    /// features are attached.
    pub fn need(&mut self, pid: Pid, need: Need) -> Result<()> {
        self.on_demand.need(pid, need);
        self.preload(|feature| serves(feature, need));
        let mut first = Ok(());
        for feature in self.features.clone() {
            if !serves(feature, need) {
                continue;
            }
            let loaded = self.load_feature(feature);
            let (object, status) = (&mut self.object, &self.status);
            let attached = loaded.and_then(|()| self.on_demand.attach(feature, object, status));
            let attached =
                attached.map_err(|refusal| anyhow!("no {}: {}", feature.name, refusal.why));
            first = first.and(attached);
        }
        self.log_absent();
        first
    }

    /// Whether sockets report that they are accepted and closed.
    #[must_use]
    pub fn sees_accepts(&self) -> bool {
        self.backend == Backend::Taps && self.sees_closes
    }

    /// Whether connections are seen by system calls.
    #[must_use]
    pub fn sees_calls(&self) -> bool {
        self.backend == Backend::Syscalls
    }

    /// A master and its workers have a need no more.
    pub fn no_need(&mut self, pid: Pid, need: Need) {
        self.on_demand
            .no_need(pid, need, &mut self.detacher, &self.status);
    }

    /// A process needs no program any more.
    pub fn release(&mut self, pid: Pid) {
        self.release_interpreter(pid);
        self.on_demand
            .release(pid, &mut self.detacher, &self.status);
    }

    /// A process needs no program on its interpreter any more.
    pub fn release_interpreter(&mut self, pid: Pid) {
        self.release_hooks(pid, |_| true);
    }

    /// The deep capture of a process ended.
    pub fn release_deep_capture(&mut self, pid: Pid) {
        self.release_hooks(pid, |hook| hook == PythonHook::TracebackHere);
    }

    fn load_hook(&mut self, hook: PythonHook) -> Result<()> {
        match of_hook(hook) {
            Some((feature, _)) => self
                .load_feature(feature)
                .map_err(|refusal| anyhow!(refusal.why)),
            None => Ok(()),
        }
    }

    /// Attaches now, or once the program is loaded.
    fn attach_or_wait(&mut self, pid: Pid, hook: PythonHook, points: &[ProbePoint]) -> Result<()> {
        let feature = of_hook(hook).map(|(feature, _)| feature.name);
        if !feature.is_some_and(|feature| self.late.has(feature)) {
            return self.attach_for(pid, hook, points);
        }
        self.waiting.push(Waiting {
            pid,
            hook,
            points: points.to_vec(),
        });
        Ok(())
    }

    fn attach_for(&mut self, pid: Pid, hook: PythonHook, points: &[ProbePoint]) -> Result<()> {
        if points.is_empty() {
            return Ok(());
        }
        self.load_hook(hook)?;
        let object = &mut self.object;
        let attached = self.interpreters.attach(pid, hook, points, |points| {
            attach_to_python(object, hook, points)
        });
        self.status.set_python(self.interpreters.places());
        attached
    }

    fn release_hooks(&mut self, pid: Pid, is_released: impl Fn(PythonHook) -> bool) {
        self.waiting
            .retain(|waiting| waiting.pid != pid || !is_released(waiting.hook));
        let links = self.interpreters.release(pid, is_released);
        self.detacher.detach(links);
        self.status.set_python(self.interpreters.places());
    }
}

fn tasks_of(interpreter: &Interpreter) -> Result<&Tasks> {
    let tasks = interpreter.tasks.as_ref();
    tasks.map_err(|why| anyhow!(why.for_terminal(REASON_CHARS)))
}
