//! The commands beside `run` and `replay`, and the demo.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    gunicorn::Builder, kernel::Loaded, observer, process, python::Python, skip, venv::Venv, wait,
};
use nix::sys::signal::Signal;
use serde::Deserialize;
use tempfile::TempDir;

#[derive(Debug, Deserialize)]
struct Master {
    pid: u32,
    worker_class: String,
    workers: Vec<Worker>,
}

#[derive(Debug, Deserialize)]
struct Worker {
    pid: u32,
}

#[test]
fn list_shows_masters_and_workers_and_loads_nothing() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class("gthread")
        .threads(2)
        .workers(2)
        .start()?;
    let before = Loaded::now()?;
    let mut child = Command::new(observer::binary()?)
        .args(["list", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut loaded = Loaded::default();
    wait::until("the end of list", || {
        let now = Loaded::now()?.beyond(&before);
        loaded.programs.extend(now.programs);
        loaded.maps.extend(now.maps);
        Ok(child.try_wait()?)
    })?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(loaded == Loaded::default(), "it loaded {loaded:?}");
    let masters: Vec<Master> = serde_json::from_slice(&output.stdout)?;
    let ours = masters.iter().find(|master| master.pid == server.pid());
    let ours = ours.with_context(|| format!("not there: {masters:#?}"))?;
    ensure!(ours.worker_class == server.worker_class(), "{ours:?}");
    let mut workers: Vec<_> = ours.workers.iter().map(|worker| worker.pid).collect();
    let mut expected = server.workers();
    workers.sort_unstable();
    expected.sort_unstable();
    ensure!(workers == expected, "{workers:?}, not {expected:?}");
    Ok(())
}

#[test]
fn doctor_is_content_here_and_not_without_root() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let well = observer::output(["doctor"])?;
    let said = String::from_utf8_lossy(&well.stdout);
    ensure!(well.status.code() == Some(0), "{said}");
    ensure!(!said.contains("FAIL"), "{said}");
    let unwell = observer::output_as_nobody(["doctor"])?;
    let said = String::from_utf8_lossy(&unwell.stdout);
    ensure!(unwell.status.code() == Some(1), "{said}");
    ensure!(said.contains("FAIL") && said.contains("fix: "), "{said}");
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Doctor {
    works: bool,
    checks: Vec<Check>,
    interpreters: Option<Vec<InterpreterFile>>,
}

#[derive(Debug, Deserialize)]
struct Check {
    ok: bool,
    fix: String,
}

#[derive(Debug, Deserialize)]
struct InterpreterFile {
    file: String,
    level: String,
    fix: String,
    masters: Vec<u32>,
    probes: Vec<Probe>,
}

#[derive(Debug, Deserialize)]
struct Probe {
    sees: String,
    single_stepped: bool,
}

#[test]
fn doctor_lists_each_interpreter_file_once_with_its_masters_and_level() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let one = Builder::new(&Venv::debian()?, "raw:app").start()?;
    let two = Builder::new(&Venv::debian()?, "raw:app")
        .class("gthread")
        .threads(2)
        .start()?;
    let Some(python) = Python::pypy(&Venv::debian()?)? else {
        return skip::unless_ci("no pypy3");
    };
    let three = Builder::new(python, "raw:app").start()?;
    // It is no master before it has had a worker for a moment.
    let files = wait::until("doctor to find the master on PyPy", || {
        let output = observer::output(["doctor", "--json"])?;
        ensure!(output.status.code() == Some(0), "{output:?}");
        let found: Doctor = serde_json::from_slice(&output.stdout)?;
        ensure!(found.works && found.checks.iter().all(|check| check.ok));
        let files = found
            .interpreters
            .context("processes were not looked into")?;
        let is_found = files.iter().any(|file| file.masters.contains(&three.pid()));
        Ok(is_found.then_some(files))
    })?;
    let of = |pid: u32| {
        let mut files = files.iter().filter(|file| file.masters.contains(&pid));
        let file = files.next().with_context(|| format!("no file of {pid}"))?;
        ensure!(files.next().is_none(), "{pid} runs two: {files:#?}");
        Ok(file)
    };
    let debian = of(one.pid())?;
    ensure!(debian.masters.contains(&two.pid()), "{files:#?}");
    ensure!(
        debian.level == "full" && debian.file.ends_with("/python3.11"),
        "{debian:#?}"
    );
    let requests = debian.probes.iter().find(|probe| probe.sees == "requests");
    ensure!(
        requests.is_some_and(|probe| !probe.single_stepped),
        "{debian:#?}"
    );
    let pypy = of(three.pid())?;
    ensure!(
        pypy.level == "socket" && pypy.fix.contains("CPython"),
        "{pypy:#?}"
    );
    ensure!(pypy.probes.is_empty(), "{pypy:#?}");
    let unwell = observer::output_as_nobody(["doctor", "--json"])?;
    ensure!(unwell.status.code() == Some(1), "{unwell:?}");
    let found: Doctor = serde_json::from_slice(&unwell.stdout)?;
    ensure!(!found.works && found.interpreters.is_none(), "{found:?}");
    let mut failing = found.checks.iter().filter(|check| !check.ok);
    ensure!(failing.all(|check| !check.fix.is_empty()), "{found:?}");
    Ok(())
}

#[test]
fn a_recorder_whose_disk_is_full_ends_by_itself_and_says_so() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app").start()?;
    let folder = TempDir::new()?;
    let log = folder.path().join("stderr");
    let mut observer = process::bound_to_us(observer::binary()?)
        .args(["record", "/dev/full", "--pid", &server.pid().to_string()])
        .args(["--listen", &format!("127.0.0.1:{}", observer::free_port()?)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()?;
    let ended = process::wait_for(&mut observer, wait::BOUND)?;
    process::end(&mut observer, observer::STOP_BOUND);
    let said = fs::read_to_string(&log)?;
    let status = ended.with_context(|| format!("it goes on; it said:\n{said}"))?;
    ensure!(status.code() == Some(1), "{status}; it said:\n{said}");
    let is_log = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
    let errors: Vec<_> = said.lines().filter(|line| !is_log(line)).collect();
    ensure!(
        errors.len() == 1 && errors[0].starts_with("gunicorn-observer: "),
        "not one line:\n{said}"
    );
    ensure!(errors[0].contains("/dev/full"), "{said}");
    Ok(())
}

/// Completes `gunicorn-observer` and the words in `$@` but the last, which is begun, as a shell that
/// has the script in `$0` does when its user presses tab.
const COMPLETE: &str = r#"
source "$0"
words=$(complete -p gunicorn-observer)
[[ $words =~ -F\ ([^ ]+) ]]
COMP_WORDS=(gunicorn-observer "$@")
COMP_CWORD=$#
COMP_LINE="${COMP_WORDS[*]}"
COMP_POINT=${#COMP_LINE}
"${BASH_REMATCH[1]}" gunicorn-observer "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_completes_commands_options_and_their_values() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let output = observer::output_as_nobody(["completions", "bash"])?;
    ensure!(output.status.success(), "{output:?}");
    let folder = TempDir::new()?;
    let script = folder.path().join("completions");
    fs::write(&script, &output.stdout)?;
    let checked = Command::new("bash").arg("-n").arg(&script).output()?;
    ensure!(
        checked.status.success() && checked.stderr.is_empty(),
        "{checked:?}"
    );
    let options = "--listen --pid --no-deep-capture".split(' ').collect();
    for (typed, expected) in [
        ("tr", vec!["trace"]),
        ("completions zs", vec!["zsh"]),
        ("run --work", vec!["--worker-label"]),
        ("run --worker-label s", vec!["slot"]),
        ("run --", options),
    ] {
        let output = Command::new("bash")
            .args(["--norc", "-c", COMPLETE])
            .arg(&script)
            .args(typed.split(' '))
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.stderr.is_empty(), "{typed}: {output:?}");
        let words: Vec<_> = said.lines().collect();
        let has_all = expected.iter().all(|word| words.contains(word));
        ensure!(
            has_all && (expected.len() > 1 || words.len() == 1),
            "{typed}: {words:?}, not {expected:?}"
        );
    }
    Ok(())
}

#[test]
fn every_man_page_is_one_to_groff() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let program = observer::output_as_nobody(["man"])?;
    ensure!(program.status.success(), "{program:?}");
    let folder = TempDir::new()?;
    let name = folder.path().display().to_string();
    let output = observer::output(["man", "--dir", &name])?;
    ensure!(output.status.success(), "{output:?}");
    let mut pages = 0;
    for entry in fs::read_dir(folder.path())? {
        let page = entry?.path();
        // All warnings: of macros that there are not, too.
        let shown = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-P-cbou"])
            .arg(&page)
            .output()
            .context("cannot run groff: run `cargo xtask setup`")?;
        ensure!(
            shown.status.success() && shown.stderr.is_empty(),
            "{}: {shown:?}",
            page.display()
        );
        let shown = String::from_utf8(shown.stdout)?;
        ensure!(shown.contains("\nEXAMPLES\n"), "{shown}");
        let words: Vec<_> = shown.split_whitespace().collect();
        let words = words.join(" ");
        let name = page.file_stem().unwrap_or_default().to_string_lossy();
        let (program, version) = ("gunicorn-observer", env!("CARGO_PKG_VERSION"));
        ensure!(
            words.starts_with(&format!("{name}(1) Gunicorn {name}(1) ")),
            "{shown}"
        );
        ensure!(words.contains(&format!("NAME {name} - ")), "{shown}");
        ensure!(
            words.ends_with(&format!(" {program} {version} {name}(1)")),
            "{shown}"
        );
        let has_options = words.contains("GUNICORN_OBSERVER_LOG_LEVEL");
        ensure!(has_options, "{shown}");
        pages += 1;
    }
    let of_program = folder.path().join("gunicorn-observer.1");
    ensure!(fs::read(of_program)? == program.stdout);
    ensure!(pages > 8, "only {pages}");
    Ok(())
}

/// The demo as `cargo xtask demo` runs it; ended when dropped.
struct Demo {
    child: Child,
    before: Loaded,
}

impl Demo {
    fn start(arguments: &[&str], stdout: Stdio) -> Result<Self> {
        let before = Loaded::now()?;
        let xtask = std::env::var_os("GUNICORN_OBSERVER_XTASK").map(PathBuf::from);
        let xtask = xtask
            .context("GUNICORN_OBSERVER_XTASK is not set: run `cargo xtask test privileged`")?;
        let child = process::bound_to_us(xtask)
            .arg("demo")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .spawn()
            .context("cannot start the demo")?;
        Ok(Self { child, before })
    }

    /// Interrupts it, waits for a good end, and checks that nothing of it is left.
    fn interrupt(&mut self) -> Result<()> {
        let started = process::descendants(self.child.id());
        ensure!(started.len() >= 2, "it runs only {started:?}");
        process::signal(self.child.id(), Signal::SIGINT)?;
        self.ends_well()?;
        let left: Vec<_> = started
            .into_iter()
            .filter(|pid| process::is_alive(*pid))
            .collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }

    fn ends_well(&mut self) -> Result<()> {
        let status = process::wait_for(&mut self.child, wait::BOUND)?;
        let status = status.context("the demo does not end")?;
        ensure!(status.success(), "the demo ended with {status}");
        wait::until("every program and map to be gone", || {
            Ok(Loaded::is_gone_beyond(&self.before)?.then_some(()))
        })
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        process::end(&mut self.child, Duration::from_secs(10));
    }
}

#[test]
fn the_demo_shows_one_table_and_ends() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let path = folder.path().join("stdout");
    let mut demo = Demo::start(&["--once"], File::create(&path)?.into())?;
    demo.ends_well()?;
    let said = fs::read_to_string(&path)?;
    for word in ["SyncWorker", "ThreadWorker", "GET /products/{id}"] {
        ensure!(said.contains(word), "no {word} in:\n{said}");
    }
    Ok(())
}

#[test]
fn the_demo_ends_with_all_it_started_on_ctrl_c() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut demo = Demo::start(&[], Stdio::piped())?;
    let out = demo.child.stdout.take().context("it has no output")?;
    let mut lines = BufReader::new(out).lines();
    let is_shown = lines.any(|line| line.is_ok_and(|line| line.contains("Ctrl-C")));
    ensure!(is_shown, "it ended by itself");
    // What it prints meanwhile must not block it.
    let rest = std::thread::spawn(move || lines.count());
    demo.interrupt()?;
    ensure!(rest.join().is_ok(), "its output could not be read");
    Ok(())
}

/// While it waits for enough requests, too.
#[test]
fn the_demo_of_one_table_ends_on_ctrl_c() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut demo = Demo::start(&["--once"], Stdio::null())?;
    wait::until("the demo to have loaded programs", || {
        let loaded = Loaded::now()?.beyond(&demo.before);
        Ok((!loaded.programs.is_empty()).then_some(()))
    })?;
    demo.interrupt()
}
