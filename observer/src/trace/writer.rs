//! The writer's thread: it may wait for who reads as long as that takes.

use super::text;
use crate::terminal;
use crate::trace::{Format, Waiting};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// So much goes into a pipe whole or not at all (`PIPE_BUF`), so that lines end where they
/// should even when nobody reads on.
const AT_ONCE_BYTES: usize = 4096;
/// How often it looks whether anyone still reads, while there is nothing to write.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What is missing is told this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Writes lines until nobody makes any more.
///
/// # Errors
/// When a line cannot be written: as of a broken pipe, when nobody reads.
pub(super) fn write(
    waiting: &Receiver<Waiting>,
    format: Format,
    out: File,
    written: &AtomicU64,
) -> io::Result<()> {
    let mut batch = Batch {
        out,
        text: String::new(),
        lines: 0,
        written,
    };
    let mut gaps = Gaps::default();
    let mut has_colors = false;
    if let Format::Text { paths, colors } = format
        && batch.out.is_terminal()
    {
        has_colors = terminal::has_colors(!colors);
        batch.text = text::header(paths) + "\n";
        batch.flush()?;
    }
    loop {
        let next = match waiting.try_recv() {
            Err(TryRecvError::Empty) => {
                batch.flush()?;
                gaps.tell();
                waiting.recv_timeout(LOOK_EVERY)
            }
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Ok(next) => Ok(next),
        };
        match next {
            Ok(Waiting { line, missed }) => {
                gaps.missed += missed;
                gaps.tell();
                let color = has_colors.then(|| text::color(&line)).flatten();
                let line = format.line(&line)?;
                match color {
                    Some(color) => batch.add(&color.paint(&line))?,
                    None => batch.add(&line)?,
                }
            }
            Err(RecvTimeoutError::Timeout) if is_closed(&batch.out) => {
                return Err(ErrorKind::BrokenPipe.into());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return batch.flush(),
        }
    }
}

/// Lines that are written at once.
struct Batch<'a> {
    out: File,
    text: String,
    lines: u64,
    written: &'a AtomicU64,
}

impl Batch<'_> {
    fn add(&mut self, line: &str) -> io::Result<()> {
        if self.text.len() + line.len() > AT_ONCE_BYTES {
            self.flush()?;
        }
        self.text.push_str(line);
        self.lines += 1;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(self.text.as_bytes())?;
        self.text.clear();
        self.written
            .fetch_add(std::mem::take(&mut self.lines), Ordering::Relaxed);
        Ok(())
    }
}

/// Requests that have no line, and when that was told.
#[derive(Default)]
struct Gaps {
    missed: u64,
    told: Option<Instant>,
}

impl Gaps {
    fn tell(&mut self) {
        let is_recent = |told: Instant| told.elapsed() < TELL_EVERY;
        if self.missed == 0 || self.told.is_some_and(is_recent) {
            return;
        }
        let missed = std::mem::take(&mut self.missed);
        tracing::warn!("{missed} requests are not shown: the output is read too slowly");
        self.told = Some(Instant::now());
    }
}

/// Whether nobody can read what would be written.
fn is_closed(out: &File) -> bool {
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    // What cannot be asked shows when it is written to.
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds
            .iter()
            .filter_map(PollFd::revents)
            .any(|events| events.intersects(gone))
}
