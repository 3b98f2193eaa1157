//! Pods of this node as the API server of their cluster has them (`--kubernetes`).
//!
//! ```text
//! API server ── list, watch ──> watch ── names ──> Directory <── asked by pod and container ── Tree
//!                                 └── PodsChanged ──> watcher, which asks anew
//! ```
//!
//! Without it names come from the node itself ([`crate::kubernetes::pod`]), which knows no owners, and
//! not all names of every pod. What the API server says wins.

mod names;
pub mod pod;
mod watch;

pub use names::PodNames;
pub use watch::{Told, client, follow};

use observer_model::fact;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pods that are remembered: a node has some hundred at most.
const MAX_PODS: usize = 10_000;

/// The pods that are known, by what the node calls them.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pods: Arc<Mutex<HashMap<String, PodNames>>>,
}

impl Directory {
    /// What the container of this id in this pod is called.
    #[must_use]
    pub fn find(&self, pod_uid: &str, container_id: &str) -> Option<fact::Pod> {
        self.pods().get(pod_uid).map(|pod| pod.of(container_id))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods().len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods().is_empty()
    }

    fn insert(&self, pod: PodNames) {
        let mut pods = self.pods();
        if pods.len() < MAX_PODS || pods.contains_key(&pod.uid) {
            pods.insert(pod.uid.clone(), pod);
        }
    }

    fn remove(&self, pod_uid: &str) {
        self.pods().remove(pod_uid);
    }

    /// Those that were listed are all there are.
    fn replace(&self, listed: Vec<PodNames>) {
        let listed = listed.into_iter().take(MAX_PODS);
        *self.pods() = listed.map(|pod| (pod.uid.clone(), pod)).collect();
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, PodNames>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
