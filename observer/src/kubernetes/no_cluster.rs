//! Stands for the cluster in a build without the cargo feature `kubernetes`.

use super::{Change, Directory};
use anyhow::{Result, bail};
use futures_util::stream;
use std::convert::Infallible;

/// There is none.
pub struct Cluster(Infallible);

impl Cluster {
    /// Refuses.
    ///
    /// # Errors
    /// Always, with the builds that can ask the API server.
    pub async fn connect() -> Result<Self> {
        bail!(
            "cannot ask the API server: this program was built without `kubernetes`; use the \
             container image or a package, build with `--features kubernetes`, or leave out \
             --kubernetes"
        )
    }

    /// Never called.
    pub fn changes(self, _node: &str, _directory: Directory) -> stream::Empty<Change> {
        match self.0 {}
    }
}
