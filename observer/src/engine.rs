//! Owns the state: takes records and facts in, gives views and effects out.

mod log;
pub mod rhythm;
mod usage;

use crate::clock::monotonic_ns;
use crate::ingest::batch::Batch;
use crate::ingest::decode;
use crate::ingest::record_file::RecordFile;
use crate::ingest::ring::Ring;
use crate::probe::gil::GilWaits;
use crate::probe::in_flight::InFlightReader;
use crate::probe::program_stats::ProgramStats;
use crate::query::Ask;
use crate::trace::{Line, Outlet};
use crate::watcher::Seen;
use crate::watcher::inbox::{self, Notifier};
use anyhow::Result;
use observer_model::event::{Event, ExitStatus};
use observer_model::fact::{Fact, WorkerInFlight};
use observer_model::input::Input;
use observer_model::lifecycle::signal;
use observer_model::views::metrics_view::ObserverView;
use observer_model::{Effect, State};
use rhythm::Rhythm;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;

/// The engine and all it reads from.
pub struct Engine {
    pub state: State,
    pub rhythm: Rhythm,
    pub ring: Ring,
    /// Requests of one drain; empty otherwise.
    pub batch: Batch,
    pub totals: ProgramStats,
    pub in_flight: InFlightReader,
    /// With `--gil`.
    pub gil: Option<GilWaits>,
    /// What userspace found out.
    pub facts: mpsc::Receiver<Fact>,
    /// Requests for views.
    pub asked: mpsc::Receiver<Ask>,
    /// Where the watcher hears of processes.
    pub watcher: Notifier,
    /// Takes all input, for a replay.
    pub record: Option<RecordFile>,
    /// Takes finished requests and worker events.
    pub lines: Option<Outlet>,
}

impl Engine {
    /// Runs until `stop`.
    ///
    /// # Errors
    /// When the ring buffer cannot be polled or the record cannot be written.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = pin!(stop);
        loop {
            let next_ns = self.rhythm.next_ns();
            tokio::select! {
                () = &mut stop => return Ok(()),
                ready = self.ring.ready() => {
                    ready?;
                    self.drain()?;
                }
                () = sleep_until(next_ns) => {}
                Some(fact) = self.facts.recv() => self.found(fact)?,
                Some(ask) = self.asked.recv() => self.answer(ask)?,
            }
            self.do_what_is_due()?;
        }
    }

    /// Reads the requests in flight and drains the ring buffer, if the rhythm says so.
    fn do_what_is_due(&mut self) -> Result<()> {
        let now_ns = monotonic_ns();
        self.watcher.set_active(self.rhythm.is_active(now_ns));
        if self.rhythm.is_read_due(now_ns) {
            self.read_in_flight()?;
        } else if self.rhythm.is_poll_due(now_ns) {
            self.drain()?;
        } else {
            return Ok(());
        }
        // A crash loses no more than a moment of the record.
        self.write(RecordFile::flush)
    }

    /// Gives no more views and sends the watcher no more notices, which ends it.
    pub fn close(&mut self) {
        self.watcher.close();
        self.asked.close();
    }

    /// Takes facts until nobody can send any: the watcher, which waits while the engine does not
    /// take its facts, has ended then.
    ///
    /// # Errors
    /// When the record cannot be written; later facts are dropped then.
    pub async fn take_last_facts(&mut self) -> Result<()> {
        let mut taken = Ok(());
        while let Some(fact) = self.facts.recv().await {
            if taken.is_ok() {
                taken = self.found(fact);
            }
        }
        taken
    }

    /// Takes what the ring buffer still holds and ends the record. Returns the observer's own
    /// counts.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn finish(mut self) -> Result<ObserverView> {
        self.take_all()?;
        self.write(RecordFile::flush)?;
        self.state.settle();
        self.pass_on();
        Ok(self.state.metrics_view(monotonic_ns()).observer)
    }

    /// Takes a fact that needs no records before it.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn fact(&mut self, fact: Fact) -> Result<()> {
        let time_ns = monotonic_ns();
        self.write(|record| record.fact(time_ns, &fact))?;
        self.state.apply(&Input::Fact { time_ns, fact });
        Ok(())
    }

    /// Writes to the record, if there is one.
    fn write(&mut self, write: impl FnOnce(&mut RecordFile) -> Result<()>) -> Result<()> {
        self.record.as_mut().map_or(Ok(()), write)
    }

    /// Takes every record of the ring buffer.
    fn drain(&mut self) -> Result<()> {
        let Self {
            state,
            ring,
            watcher,
            record,
            in_flight,
            batch,
            ..
        } = self;
        let mut has_records = false;
        let mut written = Ok(());
        let mut write = |write: &dyn Fn(&mut RecordFile) -> Result<()>| {
            if let Some(record) = record
                && written.is_ok()
            {
                written = write(record);
            }
        };
        ring.drain(|bytes| {
            let Some(input) = batch.decode(bytes, state) else {
                has_records = true;
                return write(&|record| record.kernel(bytes));
            };
            match notice(&input, state) {
                Some(notice) => watcher.notify(notice),
                None => has_records = true,
            }
            if is_unobserved_exec(&input) {
                return;
            }
            if let Some((time_ns, fact)) = in_flight_at_exit(&input, in_flight) {
                write(&|record| record.fact(time_ns, &fact));
                batch.apply(&Input::Fact { time_ns, fact }, state);
            }
            if let Input::Event(Event::Exit { time_ns, pid, .. }) = input {
                let (unfinished, lost) = in_flight.unfinished(pid, time_ns);
                if let Some(lost) = lost {
                    write(&|record| record.kernel(lost.as_bytes()));
                    batch.apply(&decode::input(lost.as_bytes()), state);
                }
                for unfinished in unfinished {
                    write(&|record| record.kernel(unfinished.as_bytes()));
                    // A well-formed request: it stays in the batch.
                    let _ = batch.decode(unfinished.as_bytes(), state);
                }
            }
            write(&|record| record.kernel(bytes));
            batch.apply(&input, state);
        });
        batch.flush(state);
        if self.rhythm.drained(monotonic_ns(), has_records) {
            self.ring.set_alarm()?;
        }
        self.pass_on();
        written
    }

    /// Passes on the state's effects.
    fn pass_on(&mut self) {
        while let Some(effect) = self.state.poll_effect() {
            match effect {
                Effect::Request(request) => self.line(Line::Request(request)),
                Effect::Worker(event) => {
                    log::worker_event(&event);
                    self.line(Line::Event(event));
                }
                Effect::Finding(finding) => log::finding(&finding),
                Effect::DeepCaptureWanted {
                    master_pid: master,
                    request,
                } => self.watcher.notify(Seen::Unexplained { master, request }),
            }
        }
    }

    fn line(&mut self, line: Line) {
        if let Some(lines) = &mut self.lines {
            lines.take(line);
        }
    }

    /// Takes what the watcher found. The watcher read a process after the kernel reported it, a
    /// fork above all: that record comes first here too.
    fn found(&mut self, fact: Fact) -> Result<()> {
        self.drain()?;
        self.fact(fact)?;
        self.pass_on();
        Ok(())
    }

    /// Takes the requests in flight. Those that finished before have a record, which is taken first.
    fn read_in_flight(&mut self) -> Result<()> {
        let found = self.in_flight.read(None);
        let is_busy =
            |of: &WorkerInFlight| of.count > 0 || of.connections.is_some_and(|it| it.waiting() > 0);
        let is_any_busy = found.workers.iter().any(is_busy);
        self.rhythm.read(found.at_ns, is_any_busy);
        self.drain()?;
        self.fact(Fact::InFlight(found))?;
        self.pass_on();
        Ok(())
    }

    /// Takes all there is: records, facts, running totals.
    fn take_all(&mut self) -> Result<()> {
        self.drain()?;
        while let Ok(fact) = self.facts.try_recv() {
            self.found(fact)?;
        }
        self.read_in_flight()?;
        let mut totals = self.totals.read();
        let dropped = self.watcher.dropped();
        totals.lost.insert(inbox::DROPPED.to_owned(), dropped);
        self.fact(Fact::Kernel(totals))?;
        if let Some(waits) = self.gil.as_ref().map(GilWaits::read) {
            self.fact(Fact::Gil { waits })?;
        }
        if let Some(usage) = usage::read() {
            self.fact(Fact::Usage(usage))?;
        }
        Ok(())
    }

    /// Answers as of now: everything that happened before is in the answer.
    fn answer(&mut self, ask: Ask) -> Result<()> {
        // No view: it has no totals, and `replay` does not show the moment of it.
        if let Ask::Masters(_) = ask {
            self.drain()?;
            ask.answer(&self.state, monotonic_ns());
            return Ok(());
        }
        self.take_all()?;
        let now_ns = monotonic_ns();
        self.rhythm.asked(now_ns);
        self.write(|record| record.tick(now_ns))?;
        self.state.apply(&Input::Tick { now_ns });
        ask.answer(&self.state, now_ns);
        Ok(())
    }
}

/// Waits until a time.
async fn sleep_until(time_ns: u64) {
    let pause_ns = time_ns.saturating_sub(monotonic_ns());
    tokio::time::sleep(Duration::from_nanos(pause_ns)).await;
}

/// Whether a process that is not observed started a program: nothing to count or keep.
fn is_unobserved_exec(input: &Input) -> bool {
    matches!(
        input,
        Input::Event(Event::Exec {
            was_target: false,
            ..
        })
    )
}

/// The requests in flight of a process that exited with anything but 0, from the maps: they are swept
/// later.
fn in_flight_at_exit(input: &Input, in_flight: &InFlightReader) -> Option<(u64, Fact)> {
    let Input::Event(Event::Exit {
        time_ns,
        pid,
        status,
    }) = *input
    else {
        return None;
    };
    (status != ExitStatus::Code(0)).then(|| {
        let mut found = in_flight.read(Some(pid));
        found.at_ns = time_ns;
        (time_ns, Fact::InFlight(found))
    })
}

/// What the watcher has to know of an event. The programs wake the engine for each of these events.
fn notice(input: &Input, state: &State) -> Option<Seen> {
    let Input::Event(event) = input else {
        return None;
    };
    match *event {
        Event::Fork { parent, child, .. } => Some(Seen::Fork { parent, child }),
        Event::Exec { pid, .. } => Some(Seen::Exec { pid }),
        Event::Exit { pid, .. } => Some(Seen::Exit { pid }),
        Event::DeepCaptureExhausted { .. } => Some(Seen::DeepCaptureExhausted),
        Event::Signal {
            pid,
            signal: signal::ABRT,
            sender: Some(sender),
            ..
        } => state.gives_up(sender, pid).then_some(Seen::Aborted { pid }),
        Event::Signal { .. } => None,
        Event::Request(_)
        | Event::Exception(_)
        | Event::CapturedFrame(_)
        | Event::Gc { .. }
        | Event::Lost { .. }
        | Event::Oom { .. }
        | Event::Stack(_) => None,
    }
}
