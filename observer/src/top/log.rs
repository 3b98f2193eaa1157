//! What is logged while the screen is drawn: the last lines of it, kept for the log screen.

use crate::untrusted::shown;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::fmt::MakeWriter;

const MAX_LINES: usize = 200;
const LINE_CHARS: usize = 500;

/// The last lines of the log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Log {
    /// The oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

/// Each line is written at once.
impl io::Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for line in text.lines() {
            if lines.len() == MAX_LINES {
                lines.pop_front();
            }
            lines.push_back(shown(line, LINE_CHARS));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_last_lines_are_kept_and_cannot_drive_the_terminal() {
        let log = Log::default();
        for number in 0..MAX_LINES + 1 {
            let line = format!("line {number} \x1b[2J\n");
            (&log).write_all(line.as_bytes()).unwrap();
        }
        let lines = log.lines();
        assert_eq!(lines.len(), MAX_LINES);
        assert_eq!(lines[0], "line 1 \\u{1b}[2J");
    }
}
