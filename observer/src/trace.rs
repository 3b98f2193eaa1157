//! A line for each finished request, as it ends, and for each worker that does: for people, or as
//! JSON.
//!
//! ```text
//! engine ─ filter ─> bounded channel ─> writer thread ─> standard output
//!                      └ full: counted, never waited for
//! ```

pub mod filter;
mod text;
pub mod worker_lines;
mod writer;

use anyhow::{Context as _, Result, anyhow};
use filter::Filter;
use observer_model::lifecycle::worker_event::WorkerEvent;
use observer_model::recent::finished_request::FinishedRequest;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel,
};
use std::time::Duration;

/// Lines that may wait to be written.
const MAX_WAITING: usize = 4096;
/// At the end, what waits may take that long to be written.
const DRAIN: Duration = Duration::from_millis(500);

/// What gets a line, or more.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Request(Box<FinishedRequest>),
    Event(Box<WorkerEvent>),
}

/// How a request is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text {
        /// Paths in the place of routes.
        paths: bool,
        /// Where it goes to a terminal that has them.
        colors: bool,
    },
}

impl Format {
    /// A line, with its end.
    ///
    /// # Errors
    /// Never, as the fields of a request are.
    pub fn line(self, line: &Line) -> io::Result<String> {
        let mut line = match (self, line) {
            (Self::Json, Line::Request(finished)) => serde_json::to_string(finished)?,
            (Self::Json, Line::Event(event)) => serde_json::to_string(event)?,
            (Self::Text { paths, .. }, Line::Request(finished)) => text::line(finished, paths),
            (Self::Text { .. }, Line::Event(event)) => worker_lines::timed(event),
        };
        line.push('\n');
        Ok(line)
    }
}

/// A request on its way to the writer.
struct Waiting {
    line: Line,
    /// Requests before it that found no room.
    missed: u64,
}

#[derive(Default)]
struct Counts {
    /// Lines that should be.
    wanted: AtomicU64,
    /// Lines that are.
    written: AtomicU64,
}

/// Takes finished requests; never waits.
pub struct Outlet {
    filter: Filter,
    lines: SyncSender<Waiting>,
    /// Since the last one that found room.
    missed: u64,
    counts: Arc<Counts>,
}

impl Outlet {
    /// Takes a request, if it is wanted.
    pub fn take(&mut self, line: Line) {
        let is_wanted = match &line {
            Line::Request(finished) => self.filter.lets_through(finished),
            // What is asked for of requests says nothing of workers, which may have ended in one.
            Line::Event(event) => event.ended.is_some(),
        };
        if !is_wanted {
            return;
        }
        self.counts.wanted.fetch_add(1, Ordering::Relaxed);
        let missed = self.missed;
        match self.lines.try_send(Waiting { line, missed }) {
            Ok(()) => self.missed = 0,
            Err(TrySendError::Full(_)) => self.missed += 1,
            // The writer ended, and with it everything will.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

/// The thread that writes; ends when the outlet is gone.
pub struct Writer {
    ended: Receiver<io::Result<()>>,
    counts: Arc<Counts>,
}

/// Starts to write to `out`. `guard` is dropped when the writer ends, whyever.
///
/// # Errors
/// When no thread can be started.
pub fn start(
    filter: Filter,
    format: Format,
    out: File,
    guard: impl Send + 'static,
) -> Result<(Outlet, Writer)> {
    let (lines, waiting) = sync_channel(MAX_WAITING);
    let (tell, ended) = channel();
    let counts = Arc::new(Counts::default());
    let of_writer = Arc::clone(&counts);
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || {
            let _guard = guard;
            let written = writer::write(&waiting, format, out, &of_writer.written);
            // Nobody waits for it when everything ends already.
            let _ = tell.send(written);
        })
        .context("cannot start the writer of lines")?;
    let outlet = Outlet {
        filter,
        lines,
        missed: 0,
        counts: Arc::clone(&counts),
    };
    Ok((outlet, Writer { ended, counts }))
}

impl Writer {
    /// Waits a moment for what is still to be written, and tells what was not. To be called
    /// when the outlet is gone.
    ///
    /// # Errors
    /// When lines could not be written; that nobody reads them any more is none.
    pub fn end(self) -> Result<()> {
        match self.ended.recv_timeout(DRAIN) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Ok(Err(error)) => {
                return Err(error).context("requests cannot be written; is the disk full?");
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("the writer of lines failed; please report it"));
            }
            Ok(Ok(())) | Err(RecvTimeoutError::Timeout) => {}
        }
        let wanted = self.counts.wanted.load(Ordering::Relaxed);
        let written = self.counts.written.load(Ordering::Relaxed);
        match wanted.saturating_sub(written) {
            0 => {}
            missing => tracing::warn!(
                "{missing} of {wanted} requests were not shown: the output was read too slowly; \
                 ask for fewer, as with --status 5xx"
            ),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "trace/trace_tests.rs"]
mod tests;
