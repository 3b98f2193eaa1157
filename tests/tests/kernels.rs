//! Kernels with limits: one that refuses a program, one without type information.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    gunicorn::Builder,
    load::ask,
    metrics::Metrics,
    observer::{self, Observer},
    process, skip, strace,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// The observer, started by a script.
struct Scripted {
    folder: TempDir,
}

impl Scripted {
    /// `script` gets the observer and its arguments as `"$@"`.
    fn by(script: &str) -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder for a script")?;
        let scripted = Self { folder };
        let path = scripted.program();
        let observer = observer::binary()?;
        let text = format!(
            "#!/bin/sh\nset -- {} \"$@\"\n{script}\n",
            observer.display()
        );
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(scripted)
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("gunicorn-observer")
    }

    /// What `doctor` says, and whether it is content.
    fn doctor(&self, arguments: &[&str]) -> Result<(Value, bool)> {
        let doctor = ["doctor", "--json", "--verbose"];
        let arguments = doctor.iter().chain(arguments);
        let output = observer::output_of(&self.program(), arguments)?;
        let report = serde_json::from_slice(&output.stdout).with_context(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            format!("doctor printed no JSON: {stderr}")
        })?;
        Ok((report, output.status.success()))
    }
}

/// On one processor the observer loads its programs in the same order each time.
const ON_ONE: &str = "taskset --cpu-list 0";

/// Which of its thread's calls of `bpf` loads this program, counted from 1 as strace counts. The programs
/// are loaded when `done`.
fn load_of(program: &str, log: &Path, done: impl FnOnce() -> Result<()>) -> Result<usize> {
    done()?;
    let log = fs::read_to_string(log)?;
    // The kernel keeps fifteen characters of a name.
    let name: String = program.chars().take(15).collect();
    let name = format!("prog_name=\"{name}\"");
    let calls = strace::calls_of(&log, &observer::binary()?.display().to_string());
    let is_load = |call: &&strace::Call| {
        call.name == "bpf" && call.rest.contains("BPF_PROG_LOAD") && call.rest.contains(&name)
    };
    let load = calls.iter().find(is_load);
    let tid = load.with_context(|| format!("no {name} in:\n{log}"))?.tid;
    let until = calls.split_inclusive(|call| is_load(&call)).next();
    let own = until.unwrap_or_default().iter();
    Ok(own
        .filter(|call| call.name == "bpf" && call.tid == tid)
        .count())
}

/// The observer, whose calls of `bpf` strace writes to a log or tampers with.
fn traced(options: &str) -> Result<Scripted> {
    Scripted::by(&format!(
        "exec {ON_ONE} strace -f {options} -- setpriv --pdeathsig TERM -- \"$@\""
    ))
}

/// Ends an observer that is traced: the guard has strace only, which leaves what it traces.
fn end(observer: &Observer) -> Result<()> {
    let traced = process::children(observer.pid());
    for &pid in &traced {
        process::signal(pid, Signal::SIGTERM)?;
    }
    wait::until("the end of what is traced", || {
        Ok((!traced.iter().any(|&pid| process::is_alive(pid))).then_some(()))
    })
}

/// The observer under a kernel that does not take this program in `doctor`, or in `run` with these
/// arguments: of the two tries neither, the one for a verdict and the one for the verifier's log.
fn refusing(program: &str, run: Option<&[String]>) -> Result<Scripted> {
    let folder = TempDir::new()?;
    let log = folder.path().join("log");
    let tracing = traced(&format!("-e trace=bpf,execve -o {}", log.display()))?;
    let first = load_of(program, &log, || match run {
        None => {
            let (report, works) = tracing.doctor(&[])?;
            ensure!(works, "{report:#}");
            Ok(())
        }
        Some(arguments) => {
            let observer = Observer::start_with(&tracing.program(), false, arguments)?;
            wait::until("every program to be loaded", || {
                Ok(absent(&observer.scrape()?).is_empty().then_some(()))
            })?;
            end(&observer)
        }
    })?;
    let tries = format!("{first}..{}", first + 1);
    traced(&format!(
        "-o /dev/null -e trace=bpf -e inject=bpf:error=E2BIG:when={tries}"
    ))
}

fn absent(metrics: &Metrics) -> Vec<String> {
    let all = metrics.all("gunicorn_observer_feature", &[]);
    let absent = all.filter(|feature| feature.value < 1.0);
    absent.map(|it| it.label("feature").to_owned()).collect()
}

#[test]
fn a_program_that_the_kernel_refuses_costs_its_own_feature_only() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (report, works) = refusing("deep_capture", None)?.doctor(&[])?;
    ensure!(works, "{report:#}");
    let features = report["features"].as_array().context("no features")?;
    let denied: Vec<_> = features.iter().filter(|it| it["ok"] == false).collect();
    ensure!(denied.len() == 1, "{denied:#?}");
    ensure!(denied[0]["name"] == "deep capture", "{denied:#?}");
    let why = denied[0]["why"].as_str().unwrap_or_default();
    ensure!(
        why.contains("deep_capture") && why.contains("Argument list too long"),
        "{why}"
    );

    let server = Builder::new(&Venv::debian()?, "kernels:app").start()?;
    let only = [format!("--pid={}", server.pid())];
    let refusing = refusing("deep_capture", Some(&only))?;
    let observer = Observer::start_with(&refusing.program(), false, &only)?;
    ask(&server, "/welcome", 10)?;
    observer.wait_for_requests(server.pid(), 10)?;
    // Others are still loading for a moment.
    wait::until("only deep capture to be absent", || {
        Ok((absent(&observer.scrape()?) == ["deep capture"]).then_some(()))
    })?;
    let log = observer.stderr()?;
    ensure!(
        log.contains("feature unavailable") && log.contains("deep_capture"),
        "{log}"
    );
    end(&observer)
}

#[test]
fn without_the_program_that_follows_processes_run_ends_and_doctor_says_so() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (report, works) = refusing("process_fork", None)?.doctor(&[])?;
    ensure!(!works, "{report:#}");
    // It loads fewer programs than `doctor`, so that another load is the one of this program.
    let refusing = refusing("process_fork", Some(&[]))?;
    let output = observer::output_of(&refusing.program(), ["run", "--listen", "127.0.0.1:0"])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{stderr}");
    ensure!(stderr.contains("process_fork"), "{stderr}");
    Ok(())
}

#[test]
fn where_every_program_is_taken_no_feature_is_absent() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "kernels:app").start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let metrics = wait::until("every feature", || {
        let metrics = observer.scrape()?;
        Ok(absent(&metrics).is_empty().then_some(metrics))
    })?;
    ensure!(metrics.all("gunicorn_observer_feature", &[]).count() > 10);
    observer.stop()?;
    Ok(())
}

/// The observer on a kernel without types of its own.
fn without_types() -> Result<Scripted> {
    let folder = Path::new(TYPES).parent().context("no folder")?;
    Scripted::by(&format!(
        "exec unshare --mount sh -c 'mount -t tmpfs none {} && exec \"$@\"' sh \"$@\"",
        folder.display()
    ))
}

fn check(report: &Value, name: &str) -> Result<Value> {
    let checks = report["checks"].as_array().context("no checks")?;
    let found = checks.iter().find(|check| check["name"] == name);
    found.cloned().with_context(|| format!("no check {name}"))
}

#[test]
fn the_types_of_a_kernel_without_them_can_be_given_in_a_file() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let hidden = without_types()?;
    let (report, works) = hidden.doctor(&[])?;
    let types = check(&report, "kernel types (BTF)")?;
    ensure!(!works && types["ok"] == false, "{report:#}");
    ensure!(
        types["fix"]
            .as_str()
            .is_some_and(|fix| fix.contains("--btf"))
    );

    let copy = TempDir::new()?;
    let copy = copy.path().join("types");
    fs::create_dir_all(copy.parent().context("no folder")?)?;
    fs::copy(TYPES, &copy)?;
    let btf = format!("--btf={}", copy.display());
    let (report, works) = hidden.doctor(&[&btf])?;
    ensure!(works, "{report:#}");

    let server = Builder::new(&Venv::debian()?, "kernels:app").start()?;
    let arguments = [btf, format!("--pid={}", server.pid())];
    let observer = Observer::start_with(&hidden.program(), false, &arguments)?;
    ask(&server, "/welcome", 10)?;
    let metrics = observer.wait_for_requests(server.pid(), 10)?;
    // What is read by the types' offsets: the socket of each, and the thread's own state.
    let queued = metrics.sum(
        "gunicorn_request_phase_seconds_count",
        &[("phase", "queue")],
    );
    ensure!(queued.to_string() == "10", "{queued} of 10 waits");
    observer.stop()?;
    Ok(())
}

#[test]
fn a_file_that_holds_no_types_is_named() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for file in ["/etc/hostname", "/nowhere/types"] {
        let listen = "--listen=127.0.0.1:0";
        let output = observer::output(["run", listen, "--btf", file])?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{stderr}");
        ensure!(stderr.contains(file), "{stderr}");
    }
    Ok(())
}

/// The limit is reported, and whether it matters to this kernel.
#[test]
fn a_limit_of_locked_memory_that_cannot_be_raised_is_reported() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let limited = Scripted::by(
        "exec prlimit --memlock=65536 setpriv --bounding-set=-sys_resource \
         --inh-caps=-sys_resource -- \"$@\"",
    )?;
    let (report, works) = limited.doctor(&[])?;
    let memory = check(&report, "locked memory")?;
    let found = memory["found"].as_str().unwrap_or_default();
    ensure!(found.contains("64 KiB"), "{memory:#}");
    // Before 5.11 it is not enough, and nothing is observed.
    ensure!(memory["ok"] == works, "{report:#}");
    Ok(())
}
