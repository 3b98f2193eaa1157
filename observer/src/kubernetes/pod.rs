//! Which pod of Kubernetes a container is of, as its node knows without being asked.
//!
//! kubelet links the log of each container in `/var/log/containers`, and the link's name has all:
//! `<pod>_<namespace>_<container>-<container id>.log` (`pkg/kubelet/kuberuntime/legacy.go`,
//! `legacyLogSymlink`). Where that folder is not to be seen, the pod's own root tells its name, as
//! the host name that kubelet writes, and its namespace, where a service account is mounted; it
//! does not tell the container's.
//!
//! The root of a process is the process's own: what is read there is followed by links inside it
//! only, is bounded, and has to be a name that Kubernetes could have given.

use crate::process::root;
use crate::process::root::Links;
use observer_model::fact::Pod;
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// Of a name: a DNS subdomain has no more characters (RFC 1123).
const MAX_NAME_BYTES: usize = 253;
/// Links that are looked at: a node has some hundred containers, and those that ended for a while.
const MAX_LINKS: usize = 100_000;

const LINKS: &str = "var/log/containers";
const HOST_NAME: &str = "etc/hostname";
const NAMESPACE: &str = "var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The pod of a process that is in this container; what is not known is empty.
#[must_use]
pub fn find(proc_root: &Path, pid: u32, container_id: &str) -> Pod {
    // The host's root is that of its first process; ours is the same when we are in no container.
    for root in ["1/root", "self/root"] {
        if let Some(pod) = of_links(&proc_root.join(root).join(LINKS), container_id) {
            return pod;
        }
    }
    let root = proc_root.join(format!("{pid}/root"));
    Pod {
        namespace: name_in(&root, NAMESPACE).unwrap_or_default(),
        name: name_in(&root, HOST_NAME).unwrap_or_default(),
        ..Pod::default()
    }
}

fn of_links(folder: &Path, container_id: &str) -> Option<Pod> {
    fs::read_dir(folder)
        .ok()?
        .take(MAX_LINKS)
        .filter_map(|link| link.ok()?.file_name().into_string().ok())
        .find_map(|link| of_link(&link, container_id))
}

fn of_link(link: &str, container_id: &str) -> Option<Pod> {
    let names = link.strip_suffix(".log")?.strip_suffix(container_id)?;
    let mut names = names.strip_suffix('-')?.split('_');
    let mut name = || names.next().filter(|name| is_name(name)).map(str::to_owned);
    let (pod, namespace, container) = (name()?, name()?, name()?);
    names.next().is_none().then_some(Pod {
        namespace,
        name: pod,
        container,
        ..Pod::default()
    })
}

/// A name that a file in a root holds.
fn name_in(root: &Path, path: &str) -> Option<String> {
    // kubelet's mounts of service accounts have links.
    let file = root::open_in(root, Path::new(path), Links::Inside).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let limit = MAX_NAME_BYTES + 2;
    file.take(limit as u64).read_to_string(&mut text).ok()?;
    let name = text.trim_end();
    is_name(name).then(|| name.to_owned())
}

/// What Kubernetes takes for one (RFC 1123, as its API's validation asks).
fn is_name(text: &str) -> bool {
    let is_in = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'.');
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_in)
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
