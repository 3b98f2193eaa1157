//! The one owner of the state: takes records and facts in, gives snapshots out.

use crate::clock::monotonic_ns;
use crate::event::Event;
use crate::fact::{Fact, Usage};
use crate::ingest::decode;
use crate::ingest::record::Recorder;
use crate::ingest::ring::Ring;
use crate::input::Input;
use crate::model::State;
use crate::probe::gil::GilWaits;
use crate::probe::totals::Totals;
use crate::sink::http::SnapshotRequest;
use crate::sink::lines::Outlet;
use crate::snapshot::Snapshot;
use crate::watcher::Seen;
use anyhow::{Context as _, Result};
use procfs::WithCurrentSystemInfo as _;
use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How long a request's record may lie in the ring buffer when nobody asks.
const DRAIN_EVERY: Duration = Duration::from_millis(100);

/// The engine and all it reads from.
pub struct Engine {
    pub state: State,
    pub ring: Ring,
    pub totals: Totals,
    /// Waits for the GIL, if they are asked for.
    pub gil: Option<GilWaits>,
    /// What userspace found.
    pub facts: mpsc::UnboundedReceiver<Fact>,
    /// Who wants a snapshot.
    pub requests: mpsc::Receiver<SnapshotRequest>,
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
                Some(fact) = self.facts.recv() => self.found(fact)?,
                Some(request) = self.requests.recv() => {
                    let snapshot = self.snapshot()?;
                    // Who asked may have gone.
                    let _ = request.send(Arc::new(snapshot));
                }
            }
        }
    }

    /// Begins the end: the watcher hears no more, ends, and detaches the programs;
    /// snapshots are no longer given.
    pub fn close(&mut self) {
        (self.seen, _) = std::sync::mpsc::channel();
        self.requests.close();
    }

    /// Takes what the ring buffer still holds and ends the record. Says what was lost on the way.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn finish(mut self) -> Result<BTreeMap<String, u64>> {
        self.take_all()?;
        self.flush()?;
        Ok(self.state.snapshot(monotonic_ns()).observer.lost)
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
            lines,
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
            if let Some(recorder) = recorder
                && written.is_ok()
            {
                written = recorder.kernel(bytes);
            }
            state.apply(&input);
        });
        for (master, request) in state.take_unexplained() {
            let _ = seen.send(Seen::Unexplained { master, request });
        }
        if let Some(lines) = lines {
            for finished in state.take_finished() {
                lines.take(finished);
            }
        }
        written.context(RECORD)
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

    /// Takes all that is there to be taken: records, facts, running totals.
    fn take_all(&mut self) -> Result<()> {
        self.drain()?;
        while let Ok(fact) = self.facts.try_recv() {
            self.found(fact)?;
        }
        self.fact(Fact::Kernel(self.totals.read()))?;
        if let Some(waits) = self.gil.as_ref().map(GilWaits::read) {
            self.fact(Fact::Gil { waits })?;
        }
        if let Some(usage) = usage() {
            self.fact(Fact::Usage(usage))?;
        }
        Ok(())
    }

    /// The view of now: whatever happened before is in it.
    fn snapshot(&mut self) -> Result<Snapshot> {
        self.take_all()?;
        let now_ns = monotonic_ns();
        if let Some(recorder) = &mut self.recorder {
            recorder.tick(now_ns).context(RECORD)?;
        }
        self.state.apply(&Input::Tick { now_ns });
        Ok(self.state.snapshot(now_ns))
    }
}

const RECORD: &str = "it cannot be written; is the disk full?";

/// What the watcher has to hear of an event.
fn told(event: &Event) -> Option<Seen> {
    match *event {
        Event::Fork { parent, child, .. } => Some(Seen::Fork { parent, child }),
        Event::Exec { pid, .. } => Some(Seen::Exec { pid }),
        Event::Exit { pid, .. } => Some(Seen::Exit { pid }),
        Event::LookExhausted { .. } => Some(Seen::LookExhausted),
        Event::Request(_) | Event::Exception(_) | Event::Unwound(_) | Event::Gc { .. } => None,
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
