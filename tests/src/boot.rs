//! Makes workers of the application `hangs` fail to boot.

use std::{fs, path::PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::gunicorn::Builder;

/// A file that controls how workers boot.
pub struct Boot {
    folder: TempDir,
}

impl Boot {
    /// Workers boot without an error at first.
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: TempDir::new()?,
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("how")
    }

    /// Workers of this server read it.
    #[must_use]
    pub fn prepare(&self, builder: Builder) -> Builder {
        builder.variable("HANGS_AT_BOOT", &self.path().to_string_lossy())
    }

    /// From now on workers fail in this way of `tests/apps/hangs.py`.
    pub fn say(&self, how: &str) -> Result<()> {
        // At once, so that none reads half of it.
        let new = self.folder.path().join("new");
        fs::write(&new, how)?;
        Ok(fs::rename(new, self.path())?)
    }

    /// Workers boot without an error again.
    pub fn well(&self) -> Result<()> {
        Ok(fs::remove_file(self.path())?)
    }
}
