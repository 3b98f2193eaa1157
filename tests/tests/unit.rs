//! The systemd unit: the observer works under its limits, and its document is right.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::Request,
    compare,
    container::Container,
    gunicorn::Builder,
    service::Service,
    skip,
    strace::Call,
    unit::{self, Unit},
    venv::Venv,
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SYSTEMD.md");
const OPTIONS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/systemd/gunicorn-observer.default"
);
const REQUESTS: usize = 10;

/// Two Gunicorns: one whose interpreter may be in a home, and one in a network of its own.
#[test]
fn the_daemon_observes_with_what_its_unit_leaves_it() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let unit = Unit::read()?;
    let venvs = Venv::all()?;
    let venv = venvs.last().context("no environment")?;
    let builder = Builder::new(venv, "raw:app").workers(2);
    let before = builder.clone().in_container(Container::Runc).start()?;
    let service = Service::new()?;
    let observer = service.start(&["--gil"])?;
    let after = builder.start()?;
    for server in [&before, &after] {
        // Traced, it takes long to find what was just started.
        let master = server.pid().to_string();
        observer.wait_until("the master to be observed", |metrics| {
            let mut masters = metrics.all("gunicorn_observer_target_level", &[]);
            masters.any(|sample| sample.label("master_pid") == master)
        })?;
        for _ in 0..REQUESTS {
            server.fetch(&Request::get("/hello"))?;
        }
        let logged = server.wait_for_access_log(REQUESTS)?;
        let metrics = observer.wait_for_requests(server.pid(), REQUESTS)?;
        compare::workers(&metrics, server, &logged)?;
        compare::nothing_lost(&metrics)?;
        observer.wait_until("a listener's backlog", |metrics| {
            let mut backlogs = metrics.all("gunicorn_listener_backlog_limit", &[]);
            backlogs.any(|sample| sample.label("master_pid") == master)
        })?;
    }
    // A browser's page, and a scrape by name.
    for path in ["/", "/api/v1/snapshot"] {
        let answer = end_to_end::client::fetch(observer.port, &Request::get(path))?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
    }
    observer.stop()?;
    let calls = service.calls()?;
    allowed(&calls, &unit)?;
    within_restrictions(&calls, &unit)
}

fn allowed(calls: &[Call], unit: &Unit) -> Result<()> {
    let allowed = unit.system_calls()?;
    let used: BTreeSet<_> = calls.iter().map(|call| call.name.clone()).collect();
    let denied: Vec<_> = used.difference(&allowed).collect();
    ensure!(denied.is_empty(), "its filter denies {denied:?}");
    // Both ways, so that this would be seen to fail.
    for call in ["bpf", "perf_event_open", "process_vm_readv", "setns"] {
        ensure!(used.contains(call), "{call} was not used");
    }
    for call in ["mount", "process_vm_writev", "ptrace", "setresuid"] {
        ensure!(!allowed.contains(call), "{call} is allowed");
    }
    Ok(())
}

fn within_restrictions(calls: &[Call], unit: &Unit) -> Result<()> {
    let families = unit.words("RestrictAddressFamilies");
    for Call { name, rest, .. } in calls {
        let forbidden = match name.as_str() {
            "socket" => !rest
                .split(',')
                .next()
                .is_some_and(|of| families.contains(of)),
            // `RestrictNamespaces=net`
            "setns" => {
                let kind = rest.split(", ").nth(1).unwrap_or_default();
                kind.split([')', ' ']).next() != Some("CLONE_NEWNET")
            }
            "unshare" => true,
            "clone" | "clone3" => rest.contains("CLONE_NEW"),
            // `MemoryDenyWriteExecute=`
            "mmap" => rest.contains("PROT_WRITE|PROT_EXEC"),
            "mprotect" | "pkey_mprotect" => rest.contains("PROT_EXEC"),
            // `ProtectSystem=strict`
            "openat" => ["O_WRONLY", "O_RDWR", "O_CREAT"]
                .iter()
                .any(|mode| rest.contains(mode)),
            _ => false,
        };
        ensure!(!forbidden, "its unit forbids {name}({rest}");
    }
    Ok(())
}

#[test]
fn the_score_in_the_document_is_what_systemd_says() -> Result<()> {
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", unit::PATH])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return skip::unless_ci(&format!("systemd-analyze: {error}")),
    };
    ensure!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout)?;
    let score = said
        .lines()
        .find_map(|line| {
            line.split_once("Overall exposure level for ")?
                .1
                .split(' ')
                .nth(1)
        })
        .context(said.clone())?;
    let document = fs::read_to_string(DOCUMENT).context("cannot read the document")?;
    let line = format!("Overall exposure level for gunicorn-observer.service: {score} OK");
    ensure!(
        document.contains(&line),
        "the document does not say: {line}"
    );
    // It also lists what costs points.
    for line in said.lines().filter(|line| line.starts_with('✗')) {
        let name = line.split_whitespace().nth(1).unwrap_or_default();
        let name = name.split('=').next().unwrap_or_default();
        ensure!(
            document.contains(&format!("`{name}=")),
            "nothing of {name}="
        );
    }
    Ok(())
}

#[test]
fn the_document_has_every_line_that_hardens() -> Result<()> {
    let document = fs::read_to_string(DOCUMENT).context("cannot read the document")?;
    let unit = Unit::read()?;
    let plain = [
        "Description",
        "Documentation",
        "ExecStart",
        "Type",
        "WantedBy",
    ];
    for name in unit.names() {
        ensure!(
            plain.contains(&name) || document.contains(&format!("`{name}=")),
            "nothing of {name}="
        );
    }
    Ok(())
}

#[test]
fn every_option_in_the_file_of_the_service_is_one() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let help = end_to_end::observer::output(["run", "--help"])?.stdout;
    let help = String::from_utf8(help)?;
    let options = fs::read_to_string(OPTIONS)?;
    let set = options.lines().filter_map(|line| line.strip_prefix('#'));
    let names: Vec<_> = set
        .filter(|line| line.starts_with("GUNICORN_OBSERVER_"))
        .filter_map(|line| line.split('=').next())
        .collect();
    for name in &names {
        ensure!(help.contains(&format!("[env: {name}=")), "no option {name}");
    }
    ensure!(names.len() > 3, "{names:?}");
    Ok(())
}
