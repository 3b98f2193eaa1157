//! The pods of a node, by what the node calls them.

use observer_model::fact;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pods that are remembered: a node has some hundred at most.
#[cfg(feature = "kubernetes")]
const MAX_PODS: usize = 10_000;

/// Names of a pod and of its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodNames {
    /// As the node's control groups have it.
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub node: String,
    /// The owner of the pod, such as `Deployment` and `shop`; empty where nothing owns it.
    pub workload_kind: String,
    pub workload: String,
    /// By their ids, of those that run or ran last.
    pub containers: BTreeMap<String, String>,
}

impl PodNames {
    /// Those of one of its containers, which need not be known yet.
    #[must_use]
    pub fn of(&self, container_id: &str) -> fact::Pod {
        fact::Pod {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            container: self
                .containers
                .get(container_id)
                .cloned()
                .unwrap_or_default(),
            node: self.node.clone(),
            workload_kind: self.workload_kind.clone(),
            workload: self.workload.clone(),
        }
    }
}

/// The known pods; a clone is the same directory.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pods: Arc<Mutex<HashMap<String, PodNames>>>,
}

impl Directory {
    /// The names of a container in a pod.
    #[must_use]
    pub fn find(&self, pod_uid: &str, container_id: &str) -> Option<fact::Pod> {
        self.pods().get(pod_uid).map(|pod| pod.of(container_id))
    }

    /// Number of pods.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods().len()
    }

    /// Whether no pod is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods().is_empty()
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, PodNames>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "kubernetes")]
impl Directory {
    pub(super) fn insert(&self, pod: PodNames) {
        let mut pods = self.pods();
        if pods.len() < MAX_PODS || pods.contains_key(&pod.uid) {
            pods.insert(pod.uid.clone(), pod);
        }
    }

    pub(super) fn remove(&self, pod_uid: &str) {
        self.pods().remove(pod_uid);
    }

    /// Forgets all pods but the listed ones.
    pub(super) fn replace(&self, listed: Vec<PodNames>) {
        let listed = listed.into_iter().take(MAX_PODS);
        *self.pods() = listed.map(|pod| (pod.uid.clone(), pod)).collect();
    }
}
