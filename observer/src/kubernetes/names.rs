//! What of a pod is told: pure.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use observer_model::fact;
use std::collections::BTreeMap;

/// kubelet knows a pod that it read from a file by a hash of that, and shows it to the API server as
/// another one, with the hash in this annotation (`pkg/kubelet/types/pod_update.go`,
/// `ConfigHashAnnotationKey`).
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// What a Deployment ends the names of its ReplicaSets with
/// (`pkg/controller/deployment/sync.go`, `getNewReplicaSet`).
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Names of a pod and of its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodNames {
    /// As the node's control groups have it.
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub node: String,
    /// What the pod is one of, such as `Deployment` and `shop`; empty where nothing owns it.
    pub workload_kind: String,
    pub workload: String,
    /// By their ids, of those that run or ran last.
    pub containers: BTreeMap<String, String>,
}

impl PodNames {
    /// Of a pod; `None` for one that has no name yet.
    #[must_use]
    pub fn new(pod: &Pod) -> Option<Self> {
        let uid = pod.annotations().get(CONFIG_HASH);
        let uid = uid.or(pod.metadata.uid.as_ref())?.clone();
        let (workload_kind, workload) = owner(pod).unwrap_or_default();
        let spec = pod.spec.as_ref();
        Some(Self {
            uid,
            namespace: pod.namespace()?,
            name: pod.metadata.name.clone()?,
            node: spec
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
            workload_kind,
            workload,
            containers: containers(pod),
        })
    }

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

/// What controls the pod; the Deployment behind a ReplicaSet is known by its name, without being asked
/// for.
fn owner(pod: &Pod) -> Option<(String, String)> {
    let mut owners = pod.owner_references().iter();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    let deployment = || {
        let hash = pod.labels().get(TEMPLATE_HASH)?;
        owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')
    };
    if owner.kind == "ReplicaSet"
        && let Some(name) = deployment()
    {
        return Some(("Deployment".to_owned(), name.to_owned()));
    }
    Some((owner.kind.clone(), owner.name.clone()))
}

/// Ids are `<runtime>://<id>` (`ContainerStatus` of the API).
fn containers(pod: &Pod) -> BTreeMap<String, String> {
    let Some(status) = &pod.status else {
        return BTreeMap::new();
    };
    let kinds = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let all = kinds.into_iter().flatten().flatten();
    all.filter_map(|container| {
        let (_, id) = container.container_id.as_deref()?.split_once("://")?;
        Some((id.to_owned(), container.name.clone()))
    })
    .collect()
}
