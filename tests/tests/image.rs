//! The container image: its contents, and that it works with no more than the chart's privileges.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use end_to_end::{
    chart::Tools,
    families::{self, REQUESTS},
    metrics::Metrics,
    observer,
    pod::{Image, Pod},
    skip,
};

const DOCKERFILE: &str = include_str!("../../deploy/Dockerfile");
const WORKSPACE: &str = include_str!("../../Cargo.toml");
/// A little more than a release takes; with what is for debuggers it would be far more.
const MOST_BYTES: u64 = 40 << 20;

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn in_the_image_are_the_program_and_its_libraries_and_it_runs_there() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let image = Image::make()?;
    let root = image.root();
    let mut bytes = 0;
    for file in files(&root)? {
        bytes += fs::metadata(&file)?.len();
        let path = file.strip_prefix(&root)?;
        let is_library = ["lib", "lib64", "usr/lib"]
            .iter()
            .any(|it| path.starts_with(it))
            && file.to_string_lossy().contains(".so");
        ensure!(
            is_library || path == Path::new("usr/bin/gunicorn-observer"),
            "what is {}?",
            path.display()
        );
    }
    ensure!(bytes < MOST_BYTES, "{bytes} bytes");
    let output = Command::new("chroot")
        .arg(&root)
        .args(["/usr/bin/gunicorn-observer", "--version"])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.starts_with("gunicorn-observer "),
        "{output:?}"
    );
    Ok(())
}

/// No engine runs here: what it would do is what is tested, by the same command.
#[test]
fn the_dockerfile_builds_with_this_compiler_on_debian_12_what_is_tested_here() -> Result<()> {
    let rust = WORKSPACE
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""))
        .map_or("", |rest| rest.trim_end_matches('"'));
    let steps: Vec<_> = DOCKERFILE
        .lines()
        .filter(|line| {
            ["FROM", "RUN", "COPY", "ENTRY"]
                .iter()
                .any(|it| line.starts_with(it))
        })
        .collect();
    let expected = [
        format!("FROM rust:{rust}-bookworm AS build"),
        "COPY . .".into(),
        "RUN cargo xtask setup --build".into(),
        "RUN cargo xtask image /image".into(),
        "FROM scratch".into(),
        "COPY --from=build /image /".into(),
        r#"ENTRYPOINT ["/usr/bin/gunicorn-observer"]"#.into(),
    ];
    ensure!(steps == expected, "{steps:#?}");
    Ok(())
}

#[test]
fn doctor_passes_in_the_charts_pod_and_names_each_missing_capability() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let tools = Tools::of_test()?;
    let image = Image::make()?;
    for pod in [
        Pod::of_chart(&tools, &image)?,
        Pod::of_chart(&tools, &image)?.without_tracefs(),
    ] {
        let output = pod.output(&["doctor"])?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(0), "{output:?}");
        ensure!(!said.contains("FAIL") && !said.contains("CAP_"), "{said}");
    }
    let pod = Pod::of_chart(&tools, &image)?.without("SYS_PTRACE")?;
    let output = pod.output(&["doctor"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(said.contains("lacks CAP_SYS_PTRACE\n"), "{said}");
    Ok(())
}

#[test]
fn the_charts_pod_observes_a_gunicorn_outside_of_it_in_full() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let tools = Tools::of_test()?;
    let image = Image::make()?;
    let server = families::server()?;
    let pod = Pod::of_chart(&tools, &image)?.start()?;
    let program = fs::read_link(format!("/proc/{}/exe", pod.pid()))?;
    let status = fs::read_to_string(format!("/proc/{}/status", pod.pid()))?;
    ensure!(status.contains("Seccomp:\t2\n"), "no filter: {status}");
    ensure!(
        status.contains("CapEff:\t000000c000280004\n"),
        "not its five capabilities: {status}"
    );
    ensure!(
        program == image.root().join("usr/bin/gunicorn-observer")
            || program == Path::new("/usr/bin/gunicorn-observer"),
        "that is {}, not {}",
        program.display(),
        observer::binary()?.display()
    );
    pod.wait_until("every program", Metrics::has_all_features)?;
    families::ask(&server)?;
    let master = server.pid().to_string();
    pod.wait_until("every request, and every family", |metrics| {
        let labels = [("master_pid", master.as_str())];
        let counted = metrics.sum("gunicorn_worker_requests_total", &labels);
        counted.to_string() == REQUESTS.to_string() && families::missing(metrics).is_empty()
    })?;
    Ok(())
}
