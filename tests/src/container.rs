//! Containers to run a Gunicorn in, each with a root of its own on overlayfs.

use std::{
    env,
    ffi::OsString,
    fs,
    path::Path,
    process::{Command, id},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{process, python::Launch};

/// The kind of container that a Gunicorn runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Only a mount namespace of its own.
    Overlay,
    /// Mount, pid, network and user namespaces of its own, made by `unshare`.
    Namespaces,
    /// What runc makes of a bundle, as for Docker with its cgroupfs driver.
    Runc,
    /// What runc makes of a bundle in the pod of this number, as kubelet and containerd do it.
    Pod(u32),
    /// The same in a pod with this identity.
    PodOf(Identity),
}

/// A node's names of a container of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub pod_uid: &'static str,
    pub container_id: &'static str,
}

/// A pod's names in its own root.
struct InPod {
    uid: String,
    namespace: String,
    name: String,
}

/// The same of a pod with another identity.
pub const OWN_NAME: &str = "by-its-own-word";

/// Namespace and name of the pod of a number.
#[must_use]
pub fn pod_names(number: u32) -> (String, String) {
    let namespace = format!("team-{}", number % 3);
    (namespace, format!("shop-5d9c7b6f4-{number:05}"))
}

/// Makes the root `$layers/root`, an overlay over `$1`. `$2` is a shared folder with the layers; `$3`
/// lists more shared folders, one a line.
const ROOT: &str = r#"
set -e
lower=$1 folders=$3
export shared=$2
shift 3
layers=$shared/layers
mkdir "$layers"
mount -t tmpfs tmpfs "$layers"
mkdir "$layers/upper" "$layers/work" "$layers/root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$layers/upper,workdir=$layers/work" "$layers/root"
mkdir -p "$layers/root/proc" "$layers/root/dev" "$layers/root/tmp"
echo "$shared
$folders" | while read -r folder; do
    mkdir -p "$layers/root$folder"
    mount --bind "$folder" "$layers/root$folder"
done
"#;

/// Becomes the program in `$@` in the root `$0`, in the shared folder: leftovers are found by it.
const ENTER: &str = r#"
set -e
mount -t proc proc "$0/proc"
exec unshare --root="$0" --wd="$shared" -- "$@"
"#;

/// The host's devices, which an overlay of its root lacks.
const OVERLAY: &str = r#"
mount --rbind /dev "$layers/root/dev"
exec sh -c "$ENTER" "$layers/root" "$@"
"#;

/// Namespaces of its own, and an address to listen at. The root is made before: root of only a user
/// namespace may not mount over a mount with submounts.
const UNSHARE: &str = r#"
exec unshare --mount --pid --net --user --map-root-user --fork --kill-child \
    sh -c "ip link set lo up; $ENTER" "$layers/root" "$@"
"#;

/// A path that is the same in containers and outside.
const PACKAGES: &str = env!("CARGO_MANIFEST_DIR");

impl Container {
    /// The command that becomes the program, or starts it as its only child, in `shared`, which is the
    /// same folder outside.
    pub(crate) fn command(self, shared: &Path, launch: &Launch) -> Result<Command> {
        let (script, end) = match self {
            Self::Overlay => (OVERLAY, Signal::SIGTERM),
            // `unshare` waits for its child and does not heed a SIGTERM.
            Self::Namespaces => (UNSHARE, Signal::SIGKILL),
            Self::Runc => return runc(&next_container(), None, shared, launch),
            Self::Pod(number) => {
                let (namespace, name) = pod_names(number);
                let uid = format!("{:08x}_0000_4000_8000_{number:012x}", id());
                let pod = InPod {
                    uid,
                    namespace,
                    name,
                };
                return runc(&next_container(), Some(&pod), shared, launch);
            }
            Self::PodOf(identity) => {
                let pod = InPod {
                    uid: identity.pod_uid.replace('-', "_"),
                    namespace: OWN_NAME.to_owned(),
                    name: OWN_NAME.to_owned(),
                };
                return runc(identity.container_id, Some(&pod), shared, launch);
            }
        };
        let mut command = in_root(script, end, shared, launch);
        command
            .env("ENTER", ENTER)
            .arg(&launch.program)
            .args(&launch.arguments)
            .envs(launch.environment.iter().cloned());
        Ok(command)
    }
}

/// A new container id, as long as real ones.
fn next_container() -> String {
    static CONTAINERS: AtomicUsize = AtomicUsize::new(0);
    let number = CONTAINERS.fetch_add(1, Ordering::Relaxed);
    format!("{:032x}{number:032x}", id())
}

fn runc(container: &str, pod: Option<&InPod>, shared: &Path, launch: &Launch) -> Result<Command> {
    let mut config = config(container, shared, launch);
    if let Some(pod) = pod {
        in_pod(&mut config, pod, container, shared)?;
    }
    let path = shared.join("config.json");
    fs::write(&path, config.to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;
    let run = r#"exec runc --root "$shared/runc" run --bundle "$shared" "$@""#;
    // It passes a SIGTERM on to the container.
    let mut command = in_root(run, Signal::SIGTERM, shared, launch);
    command.arg(container);
    Ok(command)
}

/// A script that continues in the new root with the added arguments, and is stopped with us by this
/// signal.
fn in_root(script: &str, end: Signal, shared: &Path, launch: &Launch) -> Command {
    let root = launch.root.as_deref().unwrap_or(Path::new("/"));
    let mut folders = OsString::from(PACKAGES);
    for folder in &launch.folders {
        folders.push("\n");
        folders.push(folder);
    }
    let mut command = process::bound_to_us_by(end, "unshare");
    command
        .args(["--mount", "sh", "-c", &format!("{ROOT}{script}"), "sh"])
        .args([root, shared])
        .arg(folders);
    command
}

/// The configuration of a bundle (`config.md` of the OCI runtime specification).
fn config(container: &str, shared: &Path, launch: &Launch) -> Value {
    // It ends with runc, should that be killed.
    let mut command: Vec<String> = ["setpriv", "--pdeathsig", "KILL", "--"]
        .map(Into::into)
        .into();
    command.push(launch.program.to_string_lossy().into_owned());
    let arguments = launch.arguments.iter();
    command.extend(arguments.map(|word| word.to_string_lossy().into_owned()));
    let mut variables = vec![format!("PATH={}", env::var("PATH").unwrap_or_default())];
    let shown = |(name, value): &(OsString, OsString)| {
        format!("{}={}", name.to_string_lossy(), value.to_string_lossy())
    };
    variables.extend(launch.environment.iter().map(shown));
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let namespaces = namespaces.map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": command,
            "env": variables,
            "cwd": shared,
        },
        "root": { "path": shared.join("layers/root") },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
        ],
        "linux": {
            // In the form of the cgroupfs driver; at the top, so that nothing is left behind.
            "cgroupsPath": format!("/docker-{container}.scope"),
            "namespaces": namespaces,
        },
    })
}

/// Names the control group as containerd does for kubelet's systemd slices, and mounts kubelet's files:
/// the host name, and the namespace beside the service account's token.
fn in_pod(config: &mut Value, pod: &InPod, container: &str, shared: &Path) -> Result<()> {
    let InPod {
        uid,
        namespace,
        name,
    } = pod;
    let slice = format!("kubepods-burstable-pod{uid}.slice");
    config["linux"]["cgroupsPath"] = format!("/{slice}:cri-containerd:{container}").into();
    config["hostname"] = name.as_str().into();
    let (host_name, account) = (shared.join("hostname"), shared.join("serviceaccount"));
    fs::write(&host_name, format!("{name}\n"))?;
    fs::create_dir_all(&account)?;
    fs::write(account.join("namespace"), namespace)?;
    let bind = |destination: &str, source: &Path| json!({ "destination": destination, "type": "bind", "source": source, "options": ["bind"] });
    let mounts = [
        bind("/etc/hostname", &host_name),
        bind("/var/run/secrets/kubernetes.io/serviceaccount", &account),
    ];
    let all = config["mounts"].as_array_mut().context("no mounts")?;
    all.extend(mounts);
    Ok(())
}
