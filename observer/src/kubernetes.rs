//! Names of pods.
//!
//! ```text
//! API server ── list, watch ──> Cluster ── names ──> Directory <── looked up by pod and container ── Tree
//!                                 └── Change ──> watcher, which looks them up again
//! ```
//!
//! Without `--kubernetes` names come from the node itself ([`pod`]), which knows no owners, and not
//! all names of every pod. Names from the API server win. Asking it takes the cargo feature
//! `kubernetes`.

mod directory;
pub mod pod;

#[cfg(feature = "kubernetes")]
mod cluster;
#[cfg(feature = "kubernetes")]
mod names;

#[cfg(not(feature = "kubernetes"))]
#[path = "kubernetes/no_cluster.rs"]
mod cluster;

pub use cluster::Cluster;
pub use directory::{Directory, PodNames};

/// A change of the names that the API server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Pods came, went, or have other containers.
    Names,
    /// The API server was not reached, or refuses: names stay as they were.
    Failed {
        why: String,
        /// The last attempt failed for the same reason.
        is_repeated: bool,
    },
}
