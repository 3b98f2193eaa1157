//! The image, run by runc as a node would run the chart's pod.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio, id},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    chart::{self, HELMS, Tools},
    client::{self, Request},
    metrics::Metrics,
    observer::{self, STOP_BOUND},
    process, wait,
};

/// The path of the program in the image (deploy/Dockerfile).
const ENTRYPOINT: &str = "/usr/bin/gunicorn-observer";
/// The port of the chart.
const PORT: u16 = 9918;
/// Nodes have tracefs mounted; this machine may not.
const NODE: &str =
    "test -d /sys/kernel/tracing/events || mount -t tracefs tracefs /sys/kernel/tracing\n";
/// Paths that containerd hides or write-protects in every container (`oci/spec.go`, `populateDefaultUnixSpec`).
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The contents of the image.
pub struct Image {
    folder: TempDir,
}

impl Image {
    /// Makes the contents as the image's build does, from the program under test.
    pub fn make() -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder for the image")?;
        let xtask = env::var_os("GUNICORN_OBSERVER_XTASK")
            .context("GUNICORN_OBSERVER_XTASK is not set: run `cargo xtask test privileged`")?;
        let output = Command::new(xtask)
            .arg("image")
            .arg(folder.path().join("root"))
            .arg("--program")
            .arg(observer::binary()?)
            .output()
            .context("cannot start xtask")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Self { folder })
    }

    /// Its top folder.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }
}

/// A pod of the chart, as far as one container needs it.
pub struct Pod<'a> {
    image: &'a Image,
    spec: Value,
    seccomp: Value,
    /// Whether the node has tracefs mounted.
    has_tracefs: bool,
}

/// A running pod; stopped when dropped.
pub struct Running {
    child: Child,
    pid: u32,
    folder: TempDir,
}

impl<'a> Pod<'a> {
    /// The pod of the chart with its defaults.
    pub fn of_chart(tools: &Tools, image: &'a Image) -> Result<Self> {
        let rendered = tools.template(&HELMS[0], "1.30", &[])?;
        let documents = tools.documents(&rendered)?;
        let set = chart::of_kind(&documents, "DaemonSet")?;
        Ok(Self {
            image,
            spec: set["spec"]["template"]["spec"].clone(),
            seccomp: tools.seccomp()?,
            has_tracefs: true,
        })
    }

    /// On a node whose tracefs is not mounted.
    #[must_use]
    pub fn without_tracefs(self) -> Self {
        Self {
            has_tracefs: false,
            ..self
        }
    }

    /// Without one of the chart's capabilities.
    pub fn without(mut self, capability: &str) -> Result<Self> {
        let added = &mut self.spec["containers"][0]["securityContext"]["capabilities"]["add"];
        let added = added.as_array_mut().context("no capabilities")?;
        let before = added.len();
        added.retain(|it| it != capability);
        ensure!(added.len() + 1 == before, "the chart adds no {capability}");
        Ok(self)
    }

    /// Runs the program in it with these arguments, to its end.
    pub fn output(&self, arguments: &[&str]) -> Result<Output> {
        let folder = TempDir::new().context("cannot make a folder for a bundle")?;
        let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
        self.command(folder.path(), &arguments)?
            .stdin(Stdio::null())
            .output()
            .context("cannot start runc")
    }

    /// Runs the pod, and waits until it is ready.
    pub fn start(&self) -> Result<Running> {
        let folder = TempDir::new().context("cannot make a folder for a bundle")?;
        let arguments = self.spec["containers"][0]["args"].as_array();
        let words = arguments.context("no arguments")?.iter();
        let arguments: Vec<_> = words
            .filter_map(Value::as_str)
            .map(|word| word.replace("$(POD_IP)", "127.0.0.1"))
            .collect();
        let log = fs::File::create(folder.path().join("log"))?;
        let child = self
            .command(folder.path(), &arguments)?
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start runc")?;
        let mut running = Running {
            child,
            pid: 0,
            folder,
        };
        wait::until("the pod to be ready", || {
            if let Some(status) = running.child.try_wait()? {
                bail!("it ended with {status}: {}", running.log()?);
            }
            let pid = fs::read_to_string(running.folder.path().join("pid")).unwrap_or_default();
            running.pid = pid.trim().parse().unwrap_or_default();
            let ready = running.pid != 0
                && running
                    .fetch("/readyz")
                    .is_ok_and(|response| response.status == 200);
            Ok(ready.then_some(()))
        })
        .with_context(|| format!("it said: {}", running.log().unwrap_or_default()))?;
        Ok(running)
    }

    fn command(&self, bundle: &Path, arguments: &[String]) -> Result<Command> {
        static PODS: AtomicUsize = AtomicUsize::new(0);
        let number = PODS.fetch_add(1, Ordering::Relaxed);
        let name = format!("observer-{}-{number}", id());
        let path = bundle.join("config.json");
        fs::write(&path, self.config(&name, arguments)?.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let node = if self.has_tracefs { NODE } else { "" };
        let run = r#"exec runc --root "$0/runc" run --pid-file "$0/pid" --bundle "$0" "$1""#;
        // It passes a SIGTERM on to the container.
        let mut command = process::bound_to_us_by(Signal::SIGTERM, "unshare");
        command
            .args(["--mount", "sh", "-c", &format!("set -e\n{node}{run}")])
            .arg(bundle)
            .arg(name);
        Ok(command)
    }

    /// The configuration of a bundle (`config.md` of the OCI runtime specification).
    fn config(&self, name: &str, arguments: &[String]) -> Result<Value> {
        let container = &self.spec["containers"][0];
        let security = &container["securityContext"];
        ensure!(security["privileged"] == false, "a privileged container");
        let added = security["capabilities"]["add"].as_array();
        let capabilities: Vec<_> = added
            .context("no capabilities")?
            .iter()
            .filter_map(|it| Some(format!("CAP_{}", it.as_str()?)))
            .collect();
        let mut namespaces = vec!["network", "ipc", "uts", "mount", "cgroup"];
        if self.spec["hostPID"] != true {
            namespaces.push("pid");
        }
        let namespaces: Vec<_> = namespaces
            .iter()
            .map(|kind| json!({ "type": kind }))
            .collect();
        let mut words = vec![ENTRYPOINT.to_owned()];
        words.extend_from_slice(arguments);
        Ok(json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": security["runAsUser"], "gid": security["runAsGroup"] },
                "args": words,
                "env": ["PATH=/usr/bin", "POD_IP=127.0.0.1"],
                "cwd": "/",
                // What Kubernetes makes of them for user 0: nothing is inherited.
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
                "noNewPrivileges": security["allowPrivilegeEscalation"] == false,
            },
            "root": {
                "path": self.image.root(),
                "readonly": security["readOnlyRootFilesystem"],
            },
            "mounts": self.mounts()?,
            "linux": {
                "cgroupsPath": format!("/{name}"),
                "namespaces": namespaces,
                "maskedPaths": MASKED,
                "readonlyPaths": READ_ONLY,
                "seccomp": filter(&self.seccomp, &capabilities)?,
            },
        }))
    }

    /// The mounts of every container, and those of the chart.
    fn mounts(&self) -> Result<Vec<Value>> {
        let kept = ["nosuid", "noexec", "nodev"];
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": kept }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }),
            json!({
                "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            }),
        ];
        let volumes = self.spec["volumes"].as_array().context("no volumes")?;
        let mounted = self.spec["containers"][0]["volumeMounts"].as_array();
        for mount in mounted.context("no mounts")? {
            let mut named = volumes.iter().filter(|it| it["name"] == mount["name"]);
            let volume = named.next().context("a mount of no volume")?;
            let access = if mount["readOnly"] == true {
                "ro"
            } else {
                "rw"
            };
            mounts.push(json!({
                "destination": mount["mountPath"],
                "type": "bind",
                "source": volume["hostPath"]["path"],
                "options": ["rbind", "rprivate", access],
            }));
        }
        Ok(mounts)
    }
}

/// The seccomp filter of a container with these capabilities: that of container engines
/// (`seccomp.json`) in runc's format.
fn filter(profile: &Value, capabilities: &[String]) -> Result<Value> {
    let arch = match env::consts::ARCH {
        "x86_64" => ("amd64", "SCMP_ARCH_X86_64"),
        "aarch64" => ("arm64", "SCMP_ARCH_AARCH64"),
        other => bail!("no filter for {other}"),
    };
    let has = |list: &Value, known: &dyn Fn(&str) -> bool| {
        let names = list.as_array().into_iter().flatten();
        names.filter_map(Value::as_str).any(known)
    };
    let is_given = |name: &str| capabilities.iter().any(|it| it == name);
    let applies = |rule: &&Value| {
        let (only, but) = (&rule["includes"], &rule["excludes"]);
        (only["caps"].is_null() || has(&only["caps"], &is_given))
            && (only["arches"].is_null() || has(&only["arches"], &|name| name == arch.0))
            && !has(&but["caps"], &is_given)
    };
    let rules = profile["syscalls"].as_array().context("no rules")?;
    let rules: Vec<_> = rules
        .iter()
        .filter(applies)
        .map(|rule| {
            let mut rule = rule.clone();
            if let Some(rule) = rule.as_object_mut() {
                rule.retain(|key, value| {
                    ["names", "action", "args", "errnoRet"].contains(&key.as_str())
                        && !value.is_null()
                });
            }
            rule
        })
        .collect();
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [arch.1],
        "syscalls": rules,
    }))
}

impl Running {
    /// The program's pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn log(&self) -> Result<String> {
        fs::read_to_string(self.folder.path().join("log")).context("cannot read its log")
    }

    fn fetch(&self, path: &str) -> Result<crate::response::Response> {
        process::in_network_of(self.pid, || client::fetch(PORT, &Request::get(path)))
    }

    /// `/metrics`, as served.
    pub fn scrape_text(&self) -> Result<String> {
        let response = self.fetch("/metrics")?;
        ensure!(response.status == 200, "answered {}", response.status);
        String::from_utf8(response.body).context("/metrics is not UTF-8")
    }

    /// Scrapes until a scrape is as wanted.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Result<Metrics> {
        wait::until(what, || {
            let metrics = Metrics::parse(&self.scrape_text()?)?;
            Ok(wanted(&metrics).then_some(metrics))
        })
        .with_context(|| format!("it said: {}", self.log().unwrap_or_default()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        process::end(&mut self.child, STOP_BOUND);
    }
}
