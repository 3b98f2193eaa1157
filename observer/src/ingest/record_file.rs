//! The record of a daemon: a [`Recorder`] of a file, with errors that name it.

use super::record::Recorder;
use anyhow::{Context as _, Result, anyhow};
use observer_model::fact::Fact;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A record file that is being written. Errors say that the file cannot be written, and why.
pub struct RecordFile {
    name: String,
    recorder: Recorder<File>,
}

impl RecordFile {
    /// Creates a record file, which only its owner can read.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let recorder = options.open(path).and_then(Recorder::new);
        let recorder = recorder.with_context(|| {
            format!("cannot write the record {name}; is its folder there and writable?")
        })?;
        Ok(Self { name, recorder })
    }

    /// Adds a record of the ring buffer.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kernel(&mut self, record: &[u8]) -> Result<()> {
        self.named(|recorder| recorder.kernel(record))
    }

    /// Adds a fact.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn fact(&mut self, time_ns: u64, fact: &Fact) -> Result<()> {
        self.named(|recorder| recorder.fact(time_ns, fact))
    }

    /// Adds a tick.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn tick(&mut self, now_ns: u64) -> Result<()> {
        self.named(|recorder| recorder.tick(now_ns))
    }

    /// Hands what is buffered to the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.named(Recorder::flush)
    }

    fn named(&mut self, write: impl FnOnce(&mut Recorder<File>) -> io::Result<()>) -> Result<()> {
        let name = &self.name;
        write(&mut self.recorder)
            .map_err(|error| anyhow!("cannot write the record {name}: {error}; is the disk full?"))
    }
}
