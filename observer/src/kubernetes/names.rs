//! The names in a pod of the API: pure.

use super::PodNames;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use std::collections::BTreeMap;

/// kubelet knows a pod that it read from a file by the hash of that file, and gives the API server
/// another pod for it, with the hash in this annotation (`pkg/kubelet/types/pod_update.go`,
/// `ConfigHashAnnotationKey`).
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// The label with which a Deployment ends the names of its ReplicaSets
/// (`pkg/controller/deployment/sync.go`, `getNewReplicaSet`).
const TEMPLATE_HASH: &str = "pod-template-hash";

impl PodNames {
    /// The names of a pod; `None` while it has none.
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
}

/// The controller of the pod. The name of a ReplicaSet has that of its Deployment in it, so that the
/// Deployment need not be asked for.
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
