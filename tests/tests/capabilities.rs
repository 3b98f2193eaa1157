//! With no capabilities but those that docs/SECURITY.md names.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::Request,
    gunicorn::{Builder, GunicornServer},
    metrics::Metrics,
    observer::{self, Observer},
    skip,
    venv::Venv,
};
use tempfile::TempDir;

const DOCS: &str = include_str!("../../docs/SECURITY.md");
const REQUESTS: usize = 5;

/// Those of the document's table, as `CAP_SYS_ADMIN`.
fn documented() -> Vec<&'static str> {
    let names = DOCS.lines().filter_map(|line| line.strip_prefix("| `CAP_"));
    names.filter_map(|line| line.split('`').next()).collect()
}

/// The observer as a program that has these capabilities and can get no others.
struct Limited {
    _folder: TempDir,
    program: PathBuf,
}

impl Limited {
    fn to(capabilities: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let program = folder.path().join("gunicorn-observer");
        let list: String = capabilities
            .iter()
            .map(|name| format!(",+{}", name.to_lowercase()))
            .collect();
        let script = format!(
            "#!/bin/sh\nexec setpriv --no-new-privs --bounding-set=-all{list} -- '{}' \"$@\"\n",
            observer::binary()?.display()
        );
        fs::write(&program, script)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        Ok(Self {
            _folder: folder,
            program,
        })
    }
}

fn server() -> Result<GunicornServer> {
    Builder::new(&Venv::debian()?, "shop:app")
        .workers(2)
        .start()
}

fn families(metrics: &Metrics) -> BTreeSet<String> {
    metrics.names().map(str::to_owned).collect()
}

#[test]
fn the_documented_capabilities_are_enough_for_every_family() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = server()?;
    let limited = Limited::to(&documented())?;
    let masters = || [format!("--pid={}", server.pid())];
    let root = Observer::start_with(&observer::binary()?, false, masters())?;
    let observer = Observer::start_with(&limited.program, false, masters())?;
    let status = fs::read_to_string(format!("/proc/{}/status", observer.pid()))?;
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        let line = status.lines().find_map(|line| line.strip_prefix(set));
        let bits = u64::from_str_radix(line.context("no capabilities")?.trim(), 16)?;
        ensure!(
            bits.count_ones() as usize == documented().len(),
            "{set} {bits:x}"
        );
    }
    for path in ["/", "/products/7", "/checkout", "/crash"].repeat(REQUESTS) {
        server.fetch(&Request::get(path))?;
    }
    let asked = 4 * REQUESTS;
    let expected = families(&root.wait_for_requests(server.pid(), asked)?);
    observer.wait_for_requests(server.pid(), asked)?;
    observer.wait_until("all families", |metrics| {
        expected.is_subset(&families(metrics))
    })?;
    for name in ["gunicorn_worker_memory_bytes", "gunicorn_http_errors_total"] {
        ensure!(expected.contains(name), "no {name}: {expected:?}");
    }
    observer.stop()?;
    root.stop()?;
    Ok(())
}

#[test]
fn doctor_names_each_capability_that_is_missing() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let all = documented();
    ensure!(all.len() == 3, "{all:?}");
    for missing in &all {
        let rest: Vec<&str> = all
            .iter()
            .filter(|name| *name != missing)
            .copied()
            .collect();
        let limited = Limited::to(&rest)?;
        for command in ["doctor", "run"] {
            let output = Command::new(&limited.program).arg(command).output()?;
            let told = [output.stdout, output.stderr].concat();
            let told = String::from_utf8_lossy(&told);
            ensure!(output.status.code() == Some(1), "{command}: {told}");
            ensure!(
                told.contains(&format!("lacks CAP_{missing}\n"))
                    || told.contains(&format!("lacks CAP_{missing};")),
                "{command} without {missing}: {told}"
            );
        }
    }
    Ok(())
}
