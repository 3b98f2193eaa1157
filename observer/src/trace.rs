//! `trace`: a line for each finished request and each exited worker, for people or as JSON.
//!
//! ```text
//! engine ─ filter ─> bounded channel ─> writer thread ─> standard output
//!                      └ full: the line is dropped and counted
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

/// Most lines that wait to be written.
const MAX_WAITING: usize = 4096;
/// Time at the end to write the waiting lines.
const DRAIN: Duration = Duration::from_millis(500);

/// A request or an event to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Request(Box<FinishedRequest>),
    Event(Box<WorkerEvent>),
}

/// Format of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text {
        /// Paths instead of routes.
        paths: bool,
        /// Colours, if the output is a terminal that has them.
        colors: bool,
    },
}

impl Format {
    /// A line with its newline.
    ///
    /// # Errors
    /// When the JSON cannot be written; the fields of a request and an event always can.
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

/// A line on its way to the writer.
struct Waiting {
    line: Line,
    /// Lines before it that were dropped.
    missed: u64,
}

#[derive(Default)]
struct Counts {
    /// Lines that passed the filter.
    wanted: AtomicU64,
    /// Lines written.
    written: AtomicU64,
}

/// Takes requests and events; never waits.
pub struct Outlet {
    filter: Filter,
    lines: SyncSender<Waiting>,
    /// Lines dropped since the last one that was taken.
    missed: u64,
    counts: Arc<Counts>,
}

impl Outlet {
    /// Takes a line, if it passes the filter.
    pub fn take(&mut self, line: Line) {
        let is_wanted = match &line {
            Line::Request(finished) => self.filter.lets_through(finished),
            // Filters are about requests; an exit may have cut one.
            Line::Event(event) => event.exit.is_some(),
        };
        if !is_wanted {
            return;
        }
        self.counts.wanted.fetch_add(1, Ordering::Relaxed);
        let missed = self.missed;
        match self.lines.try_send(Waiting { line, missed }) {
            Ok(()) => self.missed = 0,
            Err(TrySendError::Full(_)) => self.missed += 1,
            // The writer is gone: the command ends.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

/// The writer thread; it ends after the outlet is dropped.
pub struct Writer {
    ended: Receiver<io::Result<()>>,
    counts: Arc<Counts>,
}

/// Starts a writer to `out`. `guard` is dropped when the writer ends, for whatever reason.
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
    let (result, ended) = channel();
    let counts = Arc::new(Counts::default());
    let of_writer = Arc::clone(&counts);
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || {
            let _guard = guard;
            let written = writer::write(&waiting, format, out, &of_writer.written);
            // The receiver is gone if the command ends already.
            let _ = result.send(written);
        })
        .context("failed to start the writer of lines")?;
    let outlet = Outlet {
        filter,
        lines,
        missed: 0,
        counts: Arc::clone(&counts),
    };
    Ok((outlet, Writer { ended, counts }))
}

impl Writer {
    /// Waits a moment for the waiting lines, and warns about lines that were not written. To be called
    /// after the outlet is dropped.
    ///
    /// # Errors
    /// When lines could not be written; a reader that is gone is no error.
    pub fn end(self) -> Result<()> {
        match self.ended.recv_timeout(DRAIN) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Ok(Err(error)) => {
                return Err(error).context("failed to write requests; is the disk full?");
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("the writer of lines panicked; please report it"));
            }
            Ok(Ok(())) | Err(RecvTimeoutError::Timeout) => {}
        }
        let wanted = self.counts.wanted.load(Ordering::Relaxed);
        let written = self.counts.written.load(Ordering::Relaxed);
        match wanted.saturating_sub(written) {
            0 => {}
            missing => tracing::warn!(
                "{missing} of {wanted} requests were not shown: the output was read too slowly; \
                 filter them, such as with --status 5xx"
            ),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "trace/trace_tests.rs"]
mod tests;
