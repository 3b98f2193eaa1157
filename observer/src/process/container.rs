//! Which container a process is in, from the text of `/proc/<pid>/cgroup`.
//!
//! Runtimes name the control group of a container after it:
//!
//! | made by | last part of the path |
//! |---|---|
//! | runc's systemd driver (`libcontainer/cgroups/systemd/common.go`, `getUnitName`) | `<runtime>-<id>.scope` |
//! | containerd's CRI with another driver (`internal/cri/server/podsandbox/helpers.go`, `getCgroupsPath`) | `<slice>:cri-containerd:<id>` |
//! | cgroupfs drivers (Docker, containerd, CRI-O's and Podman's with a prefix) | `<id>`, `crio-<id>`, `libpod-<id>` |
//!
//! Above it is, in Kubernetes, the pod's (`pkg/kubelet/cm/cgroup_manager_linux.go`): `pod<uid>`, or
//! `…-pod<uid with underscores>.slice`. Containers may hold others, as nodes of kind and minikube
//! do: the innermost is the process's. What is below its group was made by the container itself.
//!
//! A process that may make control groups can name one as it likes: this is a label, no proof.

/// Hexadecimal digits of a container's id, as all of these runtimes make it.
const ID_DIGITS: usize = 64;

/// Who made a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Docker,
    Containerd,
    CriO,
    Podman,
}

impl Runtime {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
        }
    }

    /// As names of control groups begin.
    fn from_prefix(prefix: &str) -> Option<Self> {
        match prefix {
            "docker" => Some(Self::Docker),
            "cri-containerd" | "nerdctl" => Some(Self::Containerd),
            "crio" => Some(Self::CriO),
            "libpod" => Some(Self::Podman),
            _ => None,
        }
    }
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    /// `None` where the path does not tell.
    pub runtime: Option<Runtime>,
    /// Of Kubernetes, with hyphens.
    pub pod_uid: Option<String>,
}

/// The container of a process with this `/proc/<pid>/cgroup` (`cgroups(7)`): one line
/// `<number>:<controllers>:<path>` for each hierarchy, of version 1, 2 or both.
#[must_use]
pub fn parse(cgroup: &str) -> Option<Container> {
    let path = |line: &'_ str| line.splitn(3, ':').nth(2).and_then(of_path);
    let mut found = None;
    for container in cgroup.lines().filter_map(path) {
        // A hierarchy may know less than another.
        if container.pod_uid.is_some() {
            return Some(container);
        }
        found.get_or_insert(container);
    }
    found
}

fn of_path(path: &str) -> Option<Container> {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let mut parts = path.rsplit('/');
    while let Some(part) = parts.next() {
        let Some((id, runtime, slice)) = of_part(part) else {
            continue;
        };
        let above = parts.next().unwrap_or_default();
        return Some(Container {
            id: id.to_owned(),
            // Docker's cgroupfs driver.
            runtime: runtime.or_else(|| (above == "docker").then_some(Runtime::Docker)),
            pod_uid: pod_uid(slice.unwrap_or(above)),
        });
    }
    None
}

/// Id and runtime, and the slice it is in where the same part tells.
fn of_part(part: &str) -> Option<(&str, Option<Runtime>, Option<&str>)> {
    if let Some((rest, id)) = part.rsplit_once(':') {
        let (slice, prefix) = rest.rsplit_once(':')?;
        return is_id(id).then(|| (id, Runtime::from_prefix(prefix), Some(slice)));
    }
    let name = part.strip_suffix(".scope").unwrap_or(part);
    match name.rsplit_once('-') {
        // Not of a prefix that is unknown: `crio-conmon-<id>` only looks after a container.
        Some((prefix, id)) => {
            let runtime = Runtime::from_prefix(prefix)?;
            is_id(id).then_some((id, Some(runtime), None))
        }
        None => is_id(part).then_some((part, None, None)),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Of a pod's control group.
fn pod_uid(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice").or(Some(part)) {
        // systemd's driver names all groups above before the pod's own.
        Some(slice) if slice.starts_with("pod") => slice.strip_prefix("pod")?,
        Some(slice) => slice.rsplit_once("-pod")?.1,
        None => return None,
    };
    // A UUID; that of a pod from a file is a bare hash (`pkg/kubelet/config/common.go`).
    let digits: Vec<&str> = uid.split(['-', '_']).collect();
    let lengths: Vec<usize> = digits.iter().map(|digits| digits.len()).collect();
    let is_uid = matches!(lengths[..], [8, 4, 4, 4, 12] | [32]);
    (is_uid && digits.iter().all(|digits| is_hex(digits))).then(|| digits.join("-"))
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
