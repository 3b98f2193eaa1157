//! The capabilities of the chart are enough to observe everything, and root drops to them;
//! `doctor` reports each that is missing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    families::{self, REQUESTS},
    observer::{self, Observer},
    skip,
};
use tempfile::TempDir;

const SECURITY: &str = include_str!("../../docs/SECURITY.md");
/// Above the rows of its capabilities.
const TABLE: &str =
    "| capability | for | the kernel asks in | without it | `doctor` |\n|---|---|---|---|---|\n";

/// A row: the capability, and whether `doctor` fails without it.
struct Row {
    name: &'static str,
    fails: bool,
}

fn rows() -> Result<Vec<Row>> {
    let (_, rows) = SECURITY.split_once(TABLE).context("no such table")?;
    let lines = rows.lines().take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            ensure!(cells.len() == 5, "{line}");
            Ok(Row {
                name: cells[0].trim_matches('`'),
                fails: match cells[4] {
                    "fails" => true,
                    "warns" => false,
                    other => anyhow::bail!("`doctor` fails or warns, it does not {other:?}"),
                },
            })
        })
        .collect()
}

/// The observer as a container of root has it: with these capabilities and no way to others.
struct Confined {
    folder: TempDir,
}

impl Confined {
    fn to(names: &[&str]) -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder for a script")?;
        let bounding: String = names
            .iter()
            .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
            .collect();
        let script = format!(
            "#!/bin/sh\nexec setpriv --bounding-set=-all{bounding} --inh-caps=-all \
             --ambient-caps=-all --no-new-privs -- {} \"$@\"\n",
            observer::binary()?.display()
        );
        let confined = Self { folder };
        let path = confined.program();
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(confined)
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("gunicorn-observer")
    }

    fn doctor(&self) -> Result<Output> {
        observer::output_of(&self.program(), ["doctor"])
    }
}

/// What `/proc` says of each thread of a process, under this name.
fn of_threads(pid: u32, name: &str) -> Result<Vec<String>> {
    let threads = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))?;
    threads
        .map(|thread| {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            let value = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(value
                .with_context(|| format!("no {name}"))?
                .trim()
                .to_owned())
        })
        .collect()
}

/// That each thread of a process has exactly these capabilities, and no way to others.
fn has_only(pid: u32, names: &[&str]) -> Result<()> {
    let expected = names
        .iter()
        .try_fold(0, |all, name| bit(name).map(|bit| all | bit))?;
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        for found in of_threads(pid, set)? {
            let found = u64::from_str_radix(&found, 16)?;
            ensure!(found == expected, "{set} is {found:x}, not {expected:x}");
        }
    }
    for (name, wanted) in [("CapInh", 0), ("CapAmb", 0), ("NoNewPrivs", 1)] {
        for found in of_threads(pid, name)? {
            let found = u64::from_str_radix(&found, 16)?;
            ensure!(found == wanted, "{name} is {found:x}");
        }
    }
    Ok(())
}

/// The bit of each in `linux/capability.h`.
fn bit(name: &str) -> Result<u64> {
    let number = match name {
        "CAP_DAC_READ_SEARCH" => 2,
        "CAP_SYS_PTRACE" => 19,
        "CAP_SYS_ADMIN" => 21,
        "CAP_PERFMON" => 38,
        "CAP_BPF" => 39,
        other => anyhow::bail!("what is {other}?"),
    };
    Ok(1 << number)
}

#[test]
fn with_exactly_the_charts_capabilities_every_family_flows() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let rows = rows()?;
    let names: Vec<_> = rows.iter().map(|row| row.name).collect();
    let confined = Confined::to(&names)?;
    let server = families::server()?;
    let observer = Observer::start(&confined.program(), false, &[])?;
    has_only(observer.pid(), &names)?;
    families::ask(&server)?;
    observer.wait_for_requests(server.pid(), REQUESTS)?;
    observer.wait_until("every family", |metrics| {
        families::missing(metrics).is_empty()
    })?;
    observer.stop()?;
    Ok(())
}

#[test]
fn doctor_names_the_capability_that_is_missing_and_no_other() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let rows = rows()?;
    let all: Vec<_> = rows.iter().map(|row| row.name).collect();
    let said = Confined::to(&all)?.doctor()?;
    let text = String::from_utf8_lossy(&said.stdout);
    ensure!(said.status.code() == Some(0), "{text}");
    ensure!(!text.contains("CAP_"), "nothing is missing:\n{text}");
    for missing in &rows {
        let rest: Vec<_> = all.iter().filter(|name| **name != missing.name).collect();
        let rest: Vec<_> = rest.into_iter().copied().collect();
        let said = Confined::to(&rest)?.doctor()?;
        let text = String::from_utf8_lossy(&said.stdout);
        let code = i32::from(missing.fails);
        ensure!(
            said.status.code() == Some(code),
            "without {}: {}\n{text}",
            missing.name,
            said.status
        );
        for name in &all {
            let is_named = text.contains(&format!("lacks {name}"))
                || text.contains(&format!("without {name}"));
            ensure!(
                is_named == (*name == missing.name),
                "without {}, of {name}:\n{text}",
                missing.name
            );
        }
    }
    Ok(())
}

/// `SECCOMP_MODE_FILTER` of `linux/seccomp.h`.
const FILTERED: &str = "2";

#[test]
fn started_by_root_it_keeps_what_the_chart_gives_and_a_filter_of_calls_in_each_thread() -> Result<()>
{
    if skip::privileged()? {
        return Ok(());
    }
    let rows = rows()?;
    let names: Vec<_> = rows.iter().map(|row| row.name).collect();
    let server = families::server()?;
    let observer = Observer::run()?;
    families::ask(&server)?;
    observer.wait_for_requests(server.pid(), REQUESTS)?;
    has_only(observer.pid(), &names)?;
    let filters = of_threads(observer.pid(), "Seccomp")?;
    ensure!(filters.iter().all(|mode| mode == FILTERED), "{filters:?}");
    let said = observer.stop()?.stderr;
    ensure!(!said.contains("WARN"), "{said}");
    Ok(())
}

/// What it could not do any more once it gave up what it does not need is done before.
#[test]
fn a_record_goes_where_root_alone_may_write() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    const NOBODY: u32 = 65534;
    let server = families::server()?;
    let folder = TempDir::new().context("cannot make a folder for a record")?;
    chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
    let record = folder.path().join("record");
    let observer = Observer::record_to(&record, &[server.pid()])?;
    families::ask(&server)?;
    observer.wait_for_requests(server.pid(), REQUESTS)?;
    observer.stop()?;
    let requests = observer::replay_requests(&record)?;
    ensure!(requests.len() == REQUESTS, "{} requests", requests.len());
    Ok(())
}
