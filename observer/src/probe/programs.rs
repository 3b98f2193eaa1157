//! The loaded eBPF object: attaches its programs, and hands out its maps and statistics.

use super::absent::Absent;
use super::attach::{attach_feature, attach_to_python};
use super::attachments::Attachments;
use super::bpf_maps::{BpfMaps, take};
use super::detach::{Detacher, Link};
use super::features::{FEATURES, Feature, PythonHook, When};
use super::generic_io::GenericIo;
use super::gil::GilWaits;
use super::in_flight::InFlightReader;
use super::interpreters::Interpreters;
use super::program_stats::ProgramStats;
use crate::cpython::error::REASON_CHARS;
use crate::cpython::target::{Interpreter, ProbePoint};
use anyhow::{Result, anyhow, bail};
use aya::Ebpf;
use aya::maps::{Array, MapData, RingBuf};
use aya::programs::ProgramInfo;
use observer_model::event::Pid;

/// Owns the loaded object; dropping it detaches all programs.
pub struct Programs {
    /// Maps that userspace writes.
    pub maps: BpfMaps,
    ebpf: Ebpf,
    absent: Absent,
    loads: Vec<Load>,
    attachments: Attachments,
    /// Attachments of the whole host.
    host: Vec<Link>,
    generic_io: GenericIo,
    interpreters: Interpreters,
    detacher: Detacher,
}

/// The load of one program.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub feature: &'static Feature,
    pub program: &'static str,
    pub took_ns: u64,
}

impl Drop for Programs {
    fn drop(&mut self) {
        let mut links = std::mem::take(&mut self.host);
        links.extend(self.generic_io.take_links());
        links.extend(self.interpreters.take_links());
        self.detacher.detach_all(links);
    }
}

impl Programs {
    /// The object after its load, attached to nothing yet.
    ///
    /// # Errors
    /// When the object lacks a map.
    pub(super) fn new(mut ebpf: Ebpf, absent: Absent, loads: Vec<Load>) -> Result<Self> {
        Ok(Self {
            maps: BpfMaps::take(&mut ebpf)?,
            ebpf,
            absent,
            loads,
            attachments: Attachments::default(),
            host: Vec::new(),
            generic_io: GenericIo::default(),
            interpreters: Interpreters::default(),
            detacher: Detacher::default(),
        })
    }

    /// Attaches the programs of the whole host, with those on GIL waits if `gil`. Logs each feature
    /// that this kernel does not support.
    ///
    /// # Errors
    /// When a required feature is absent.
    pub fn attach_host(&mut self, gil: bool) -> Result<()> {
        for feature in FEATURES {
            let is_wanted = match feature.attached {
                When::Required | When::Always => true,
                When::Gil => gil,
                When::Interpreter | When::DeepCapture | When::GenericIo => false,
            };
            if is_wanted && self.absent.why(feature).is_none() {
                match attach_feature(&mut self.ebpf, feature) {
                    Ok(links) => self.host.extend(links),
                    Err(refusal) => self.absent.add(feature, refusal),
                }
            }
        }
        if let Some(refusal) = self.absent.required() {
            bail!("{}; run `gunicorn-observer doctor`", refusal.why);
        }
        self.attachments.set_gil(gil);
        for (feature, refusal) in self.absent.iter() {
            tracing::warn!(
                feature = feature.name,
                reason = refusal.why,
                effect = feature.without,
                "feature unavailable"
            );
        }
        Ok(())
    }

    /// The features that this kernel does not support.
    #[must_use]
    pub fn absent(&self) -> &Absent {
        &self.absent
    }

    /// Every program that was loaded or rejected, in order.
    #[must_use]
    pub fn loads(&self) -> &[Load] {
        &self.loads
    }

    /// What the kernel knows of a loaded program; `None` if it was rejected.
    #[must_use]
    pub fn info(&self, program: &str) -> Option<ProgramInfo> {
        self.ebpf.program(program).and_then(|it| it.info().ok())
    }

    /// Forwards log lines of the programs to the observer's log, until the runtime ends.
    ///
    /// # Errors
    /// When the programs were built without logging.
    #[cfg(feature = "probe-log")]
    pub fn start_log(&mut self) -> Result<()> {
        super::log::start(&mut self.ebpf)
    }

    /// The ring buffer of the records. It can be taken once.
    ///
    /// # Errors
    /// When the object lacks it, or it was taken.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>> {
        take(&mut self.ebpf, "EVENTS")
    }

    /// The alarm of the ring buffer. It can be taken once.
    ///
    /// # Errors
    /// When the object lacks it, or it was taken.
    pub fn take_alarm(&mut self) -> Result<Array<MapData, u32>> {
        take(&mut self.ebpf, "ALARM")
    }

    /// The statistics of the programs that are available now. They can be taken once.
    ///
    /// # Errors
    /// When the object lacks the counters, or they were taken.
    pub fn take_stats(&mut self) -> Result<ProgramStats> {
        ProgramStats::take(&mut self.ebpf, self.attachments.clone(), &self.absent)
    }

    /// A reader of GIL waits. It can be taken once.
    ///
    /// # Errors
    /// When the object lacks a map, or it was taken.
    pub fn take_gil_waits(&mut self) -> Result<GilWaits> {
        GilWaits::take(&mut self.ebpf)
    }

    /// A reader of requests in flight.
    ///
    /// # Errors
    /// When the object lacks a map.
    pub fn in_flight(&self) -> Result<InFlightReader> {
        InFlightReader::new(&self.ebpf)
    }

    /// Attaches the program on a function of Python at one place.
    ///
    /// # Errors
    /// When the file cannot be opened, or the kernel rejected the program or refuses to attach it.
    pub fn attach_at(&mut self, hook: PythonHook, point: &ProbePoint) -> Result<Link> {
        attach_to_python(&mut self.ebpf, hook, point)
    }

    /// Makes sure that the requests of a process are seen.
    ///
    /// # Errors
    /// As [`Self::attach_at`].
    pub fn attach_requests(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        self.attach_for(pid, PythonHook::DatetimeNow, &interpreter.now)
    }

    /// Makes sure that handled exceptions of a process are seen, as far as its interpreter has the
    /// functions. [`Interpreter::shortcomings`] names missing ones.
    ///
    /// # Errors
    /// As [`Self::attach_at`].
    pub fn attach_exceptions(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let mut points = interpreter.handled.iter().flatten();
        points.try_for_each(|point| self.attach_for(pid, PythonHook::ExceptionAsked, point))
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
        self.interpreters.allow_gc(collector)?;
        // Ends first: a collection that is seen to begin is also seen to end.
        let ends = collector.ends.iter();
        ends.map(|point| (PythonHook::GcEnds, point))
            .chain(
                collector
                    .begins
                    .iter()
                    .map(|point| (PythonHook::GcBegins, point)),
            )
            .try_for_each(|(hook, point)| self.attach_for(pid, hook, point))
    }

    /// Starts to capture every frame that an exception of a process leaves.
    ///
    /// # Errors
    /// As [`Self::attach_at`], or when the interpreter lacks the function.
    pub fn attach_deep_capture(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let point = interpreter.deep_capture.as_ref();
        let point = point.map_err(|why| anyhow!(why.for_terminal(REASON_CHARS)))?;
        self.attach_for(pid, PythonHook::TracebackHere, point)
    }

    /// Makes sure that the programs on generic I/O are attached, for a master and its workers.
    ///
    /// # Errors
    /// When the kernel rejected a program or refuses to attach it.
    pub fn attach_generic_io(&mut self, pid: Pid) -> Result<()> {
        self.generic_io
            .need(pid, &mut self.ebpf, &self.absent, &self.attachments)
    }

    /// A process needs no program any more.
    pub fn release(&mut self, pid: Pid) {
        self.release_interpreter(pid);
        self.generic_io
            .release(pid, &mut self.detacher, &self.attachments);
    }

    /// A process needs no program on its interpreter any more.
    pub fn release_interpreter(&mut self, pid: Pid) {
        self.release_hooks(pid, |_| true);
    }

    /// The deep capture of a process ended.
    pub fn release_deep_capture(&mut self, pid: Pid) {
        self.release_hooks(pid, |hook| hook == PythonHook::TracebackHere);
    }

    fn attach_for(&mut self, pid: Pid, hook: PythonHook, point: &ProbePoint) -> Result<()> {
        let ebpf = &mut self.ebpf;
        self.interpreters
            .attach(pid, hook, point, || attach_to_python(ebpf, hook, point))?;
        self.attachments.set_python(self.interpreters.hooks());
        Ok(())
    }

    fn release_hooks(&mut self, pid: Pid, is_released: impl Fn(PythonHook) -> bool) {
        let links = self.interpreters.release(pid, is_released);
        self.detacher.detach(links);
        self.attachments.set_python(self.interpreters.hooks());
    }
}
