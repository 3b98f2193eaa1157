//! The capabilities of the chart are enough to observe everything, and root drops to them; on kernels
//! with `uprobe_multi` the smaller set is enough; `doctor` reports each that is missing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    families::{self, REQUESTS},
    metrics::Metrics,
    observer::{self, Observer},
    skip,
};
use tempfile::TempDir;

const SECURITY: &str = include_str!("../../docs/SECURITY.md");
const SYSTEMD: &str = include_str!("../../docs/SYSTEMD.md");
/// Above the rows of the capabilities without `CAP_SYS_ADMIN`.
const WITHOUT_ADMIN: &str = "| capability | for | without it |\n|---|---|---|\n";
/// Above the rows of its capabilities.
const TABLE: &str =
    "| capability | for | the kernel asks in | without it | `doctor` |\n|---|---|---|---|---|\n";

/// A row: the capability, and whether `doctor` fails without it.
struct Row {
    name: &'static str,
    fails: Fails,
}

#[derive(Clone, Copy, PartialEq)]
enum Fails {
    Always,
    /// On kernels without `uprobe_multi`.
    Before6_6,
    Never,
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
                    "fails" => Fails::Always,
                    "fails before Linux 6.6" => Fails::Before6_6,
                    "warns" => Fails::Never,
                    other => anyhow::bail!("`doctor` fails or warns, it does not {other:?}"),
                },
            })
        })
        .collect()
}

/// The capabilities that do without `CAP_SYS_ADMIN`.
fn without_admin() -> Result<Vec<&'static str>> {
    let (_, rows) = SECURITY
        .split_once(WITHOUT_ADMIN)
        .context("no such table")?;
    let lines = rows.lines().take_while(|line| line.starts_with('|'));
    let names = lines.map(|line| line.trim_start_matches("| `").split('`').next());
    names.map(|name| name.context("no name")).collect()
}

/// Whether this kernel attaches probes on functions without `CAP_SYS_ADMIN`.
fn has_uprobe_multi() -> Result<bool> {
    let said = observer::output(["doctor"])?;
    Ok(String::from_utf8_lossy(&said.stdout).contains("by uprobe_multi"))
}

/// The observer as a container of root has it: with these capabilities and no way to others.
struct Confined {
    folder: TempDir,
}

impl Confined {
    /// tracefs is there already: without `CAP_SYS_ADMIN` the observer cannot mount it.
    fn to(names: &[&str]) -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder for a script")?;
        let bounding: String = names
            .iter()
            .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
            .collect();
        let script = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'test -d /sys/kernel/tracing/events || \
             mount -t tracefs tracefs /sys/kernel/tracing; \
             exec setpriv --bounding-set=-all{bounding} --inh-caps=-all \
             --ambient-caps=-all --no-new-privs -- {} \"$@\"' sh \"$@\"\n",
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
        "CAP_NET_ADMIN" => 12,
        "CAP_SYS_PTRACE" => 19,
        "CAP_SYS_ADMIN" => 21,
        "CAP_PERFMON" => 38,
        "CAP_BPF" => 39,
        "CAP_CHECKPOINT_RESTORE" => 40,
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
    observer.wait_until("every program", Metrics::has_all_features)?;
    families::ask(&server)?;
    observer.wait_for_requests(server.pid(), REQUESTS)?;
    observer.wait_until("every family", |metrics| {
        families::missing(metrics).is_empty()
    })?;
    observer.stop()?;
    Ok(())
}

#[test]
fn without_cap_sys_admin_every_family_flows_where_the_kernel_has_uprobe_multi() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let names = without_admin()?;
    let confined = Confined::to(&names)?;
    let said = confined.doctor()?;
    let text = String::from_utf8_lossy(&said.stdout);
    if !has_uprobe_multi()? {
        ensure!(said.status.code() == Some(1), "{text}");
        ensure!(text.contains("lacks CAP_SYS_ADMIN"), "{text}");
        return Ok(());
    }
    ensure!(said.status.code() == Some(0), "{text}");
    ensure!(text.contains("without CAP_SYS_ADMIN"), "{text}");
    let server = families::server()?;
    let observer = Observer::start(&confined.program(), false, &[])?;
    has_only(observer.pid(), &names)?;
    observer.wait_until("every program", Metrics::has_all_features)?;
    families::ask(&server)?;
    observer.wait_for_requests(server.pid(), REQUESTS)?;
    observer.wait_until("every family", |metrics| {
        families::missing(metrics).is_empty()
    })?;
    observer.stop()?;
    Ok(())
}

#[test]
fn the_lines_for_the_unit_have_the_capabilities_that_do_without_cap_sys_admin() -> Result<()> {
    let names = without_admin()?.join(" ");
    for line in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        let lines = format!("\n{line}=\n{line}={names}\n");
        ensure!(SYSTEMD.contains(&lines), "{lines}");
    }
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
    let has_uprobe_multi = text.contains("by uprobe_multi");
    for missing in &rows {
        let rest: Vec<_> = all.iter().filter(|name| **name != missing.name).collect();
        let rest: Vec<_> = rest.into_iter().copied().collect();
        let said = Confined::to(&rest)?.doctor()?;
        let text = String::from_utf8_lossy(&said.stdout);
        let fails = match missing.fails {
            Fails::Always => true,
            Fails::Before6_6 => !has_uprobe_multi,
            Fails::Never => false,
        };
        let code = i32::from(fails);
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
    let observer = Observer::run_for(&[server.pid()])?;
    observer.wait_until("every program", Metrics::has_all_features)?;
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
    observer.wait_until("every program", Metrics::has_all_features)?;
    families::ask(&server)?;
    observer.wait_for_requests(server.pid(), REQUESTS)?;
    observer.stop()?;
    let requests = observer::replay_requests(&record)?;
    ensure!(requests.len() == REQUESTS, "{} requests", requests.len());
    Ok(())
}
