//! The one owner of the state: takes records and facts in, gives snapshots out.

use crate::clock::monotonic_ns;
use crate::ingest::decode;
use crate::ingest::record::Recorder;
use crate::ingest::ring::Ring;
use crate::probe::gil::GilWaits;
use crate::probe::in_flight::InFlightReader;
use crate::probe::program_stats::Totals;
use crate::query::Ask;
use crate::trace::worker_lines;
use crate::trace::{Line, Outlet};
use crate::untrusted::shown;
use crate::watcher::Seen;
use anyhow::{Context as _, Result};
use observer_model::event::{Event, ExitStatus, Pid};
use observer_model::fact::{Fact, Usage};
use observer_model::findings::finding::Finding;
use observer_model::input::Input;
use observer_model::lifecycle::worker_event::WorkerEvent;
use observer_model::views::metrics_view::ObserverView;
use observer_model::{Effect, State};
use procfs::WithCurrentSystemInfo as _;
use std::fs::File;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How long a request's record may lie in the ring buffer when nobody asks.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// Requests in progress are looked at this often, when nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The engine and all it reads from.
pub struct Engine {
    pub state: State,
    pub ring: Ring,
    pub totals: Totals,
    pub in_flight: InFlightReader,
    /// Waits for the GIL, if they are asked for.
    pub gil: Option<GilWaits>,
    /// What userspace found.
    pub facts: mpsc::UnboundedReceiver<Fact>,
    /// Who wants to know what is there.
    pub asked: mpsc::Receiver<Ask>,
    /// Where the watcher hears of processes.
    pub seen: std::sync::mpsc::Sender<Seen>,
    /// Where the input is written to, for a replay.
    pub recorder: Option<Recorder<File>>,
    /// Where finished requests go; the state keeps them if there is one.
    pub lines: Option<Outlet>,
}

impl Engine {
    /// Runs until `stop`.
    ///
    /// # Errors
    /// When the ring buffer cannot be polled or the record cannot be written.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = pin!(stop);
        let mut drain = tokio::time::interval(DRAIN_EVERY);
        drain.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                ready = self.ring.ready() => {
                    ready?;
                    self.drain()?;
                }
                _ = drain.tick() => {
                    self.drain()?;
                    self.flush()?;
                    self.grow_old();
                }
                _ = look.tick() => self.look()?,
                Some(fact) = self.facts.recv() => self.found(fact)?,
                Some(ask) = self.asked.recv() => self.answer(ask)?,
            }
        }
    }

    /// Begins the end: the watcher hears no more, ends, and detaches the programs;
    /// snapshots are no longer given.
    pub fn close(&mut self) {
        (self.seen, _) = std::sync::mpsc::channel();
        self.asked.close();
    }

    /// Takes what the ring buffer still holds and ends the record. Says what was lost on the way.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn finish(mut self) -> Result<ObserverView> {
        self.take_all()?;
        self.flush()?;
        Ok(self.state.snapshot(monotonic_ns()).observer)
    }

    /// Forgets what is over. Where views are asked for, each does that.
    fn grow_old(&mut self) {
        if self.lines.is_some() && self.recorder.is_none() {
            let now_ns = monotonic_ns();
            self.state.apply(&Input::Tick { now_ns });
        }
    }

    /// Hands to the record file what is buffered: a crash loses no more than a moment.
    fn flush(&mut self) -> Result<()> {
        match &mut self.recorder {
            Some(recorder) => recorder.flush().context(RECORD),
            None => Ok(()),
        }
    }

    fn drain(&mut self) -> Result<()> {
        let Self {
            state,
            ring,
            seen,
            recorder,
            in_flight,
            ..
        } = self;
        let mut written = Ok(());
        ring.drain(|bytes| {
            let input = decode::input(bytes);
            if let Input::Event(event) = &input {
                if let Some(told) = told(event) {
                    // The watcher is gone only while everything ends.
                    let _ = seen.send(told);
                }
                // A program that is none of ours began: nothing to count or keep.
                if matches!(
                    event,
                    Event::Exec {
                        was_target: false,
                        ..
                    }
                ) {
                    return;
                }
            }
            // What it was doing when it was killed is still known, for a moment.
            if let Input::Event(Event::Exit {
                time_ns,
                pid,
                status,
            }) = &input
                && *status != ExitStatus::Code(0)
            {
                let found = in_flight_at_end(in_flight, *pid, *time_ns);
                if let Some(recorder) = recorder
                    && written.is_ok()
                {
                    written = recorder.fact(*time_ns, &found);
                }
                state.apply(&Input::Fact {
                    time_ns: *time_ns,
                    fact: found,
                });
            }
            if let Some(recorder) = recorder
                && written.is_ok()
            {
                written = recorder.kernel(bytes);
            }
            state.apply(&input);
        });
        self.pass_on();
        written.context(RECORD)
    }

    /// Passes on what the state asks for.
    fn pass_on(&mut self) {
        while let Some(effect) = self.state.poll_effect() {
            match effect {
                Effect::Request(request) => self.line(Line::Request(request)),
                Effect::Worker(event) => {
                    log_event(&event);
                    self.line(Line::Event(event));
                }
                Effect::Finding(finding) => log_finding(&finding),
                Effect::DeepCaptureWanted {
                    master_pid,
                    request,
                } => {
                    let master = master_pid;
                    let _ = self.seen.send(Seen::Unexplained { master, request });
                }
            }
        }
    }

    fn line(&mut self, line: Line) {
        if let Some(lines) = &mut self.lines {
            lines.take(line);
        }
    }

    /// Takes what the watcher found. It read a process after what the kernel told
    /// of it, a fork above all: that has to come first here too.
    fn found(&mut self, fact: Fact) -> Result<()> {
        self.drain()?;
        self.fact(fact)
    }

    fn fact(&mut self, fact: Fact) -> Result<()> {
        let time_ns = monotonic_ns();
        if let Some(recorder) = &mut self.recorder {
            recorder.fact(time_ns, &fact).context(RECORD)?;
        }
        self.state.apply(&Input::Fact { time_ns, fact });
        Ok(())
    }

    /// DeepCaptures at the requests in progress. Those that ended before that have a record, which is to be
    /// taken first.
    fn look(&mut self) -> Result<()> {
        let found = self.in_flight.read(None);
        self.drain()?;
        self.fact(Fact::InFlight(found))?;
        self.pass_on();
        Ok(())
    }

    /// Takes all that is there to be taken: records, facts, running totals.
    fn take_all(&mut self) -> Result<()> {
        self.drain()?;
        while let Ok(fact) = self.facts.try_recv() {
            self.found(fact)?;
        }
        self.look()?;
        self.fact(Fact::Kernel(self.totals.read()))?;
        if let Some(waits) = self.gil.as_ref().map(GilWaits::read) {
            self.fact(Fact::Gil { waits })?;
        }
        if let Some(usage) = usage() {
            self.fact(Fact::Usage(usage))?;
        }
        Ok(())
    }

    /// Answers as of now: whatever happened before is in it.
    fn answer(&mut self, ask: Ask) -> Result<()> {
        self.take_all()?;
        let now_ns = monotonic_ns();
        if let Some(recorder) = &mut self.recorder {
            recorder.tick(now_ns).context(RECORD)?;
        }
        self.state.apply(&Input::Tick { now_ns });
        ask.answer(&self.state, now_ns);
        Ok(())
    }
}

const RECORD: &str = "it cannot be written; is the disk full?";

/// Characters of a text of an observed process that are logged.
const TEXT_CHARS: usize = 300;

fn in_flight_at_end(in_flight: &InFlightReader, pid: Pid, time_ns: u64) -> Fact {
    let mut found = in_flight.read(Some(pid));
    found.at_ns = time_ns;
    Fact::InFlight(found)
}

/// Into the log.
fn log_event(event: &WorkerEvent) {
    let is_trouble = event
        .ended
        .as_ref()
        .is_some_and(|ended| ended.reason.is_trouble());
    for line in worker_lines::lines(event) {
        match (is_trouble, &event.ended) {
            (true, _) => tracing::warn!("{line}"),
            (false, Some(_)) => tracing::info!("{line}"),
            (false, None) => tracing::debug!("{line}"),
        }
    }
}

/// Into the log.
fn log_finding(finding: &Finding) {
    let app = shown(&finding.app, TEXT_CHARS);
    let evidence = shown(&finding.evidence, TEXT_CHARS);
    let (kind, master, worker) = (
        finding.finding.as_str(),
        finding.master_pid,
        finding.worker_pid,
    );
    tracing::warn!(app, master, worker, "{kind}: {evidence}");
}

/// What the watcher has to hear of an event.
fn told(event: &Event) -> Option<Seen> {
    match *event {
        Event::Fork { parent, child, .. } => Some(Seen::Fork { parent, child }),
        Event::Exec { pid, .. } => Some(Seen::Exec { pid }),
        Event::Exit { pid, .. } => Some(Seen::Exit { pid }),
        Event::DeepCaptureExhausted { .. } => Some(Seen::DeepCaptureExhausted),
        Event::Request(_)
        | Event::Exception(_)
        | Event::CapturedFrame(_)
        | Event::Gc { .. }
        | Event::Signal { .. }
        | Event::Oom { .. }
        | Event::Stack(_) => None,
    }
}

/// What this process uses.
fn usage() -> Option<Usage> {
    let stat = procfs::process::Process::myself()
        .and_then(|me| me.stat())
        .ok()?;
    let ticks = u32::try_from(procfs::ticks_per_second()).ok()?;
    let used = u32::try_from(stat.utime + stat.stime).ok()?;
    Some(Usage {
        cpu_seconds: f64::from(used) / f64::from(ticks),
        resident_bytes: stat.rss_bytes().get(),
    })
}
