//! Where some probes are not attached, requests keep what the others show, and the phases between become
//! one: without control groups in sight, and with probes at entry and exit only.

use std::{ffi::OsString, process::Command};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    cgroup,
    client::{Client, Request},
    compare,
    facts::Fact,
    gunicorn::{Builder, GunicornServer},
    observer::{self, Observer},
    skip,
    venv::Venv,
};

const CLASSES: [&str; 3] = ["sync", "gthread", "gevent"];
/// How long the application takes.
const SLEPT_NS: u64 = 100_000_000;

fn server(class: &str) -> Result<GunicornServer> {
    Builder::new(&Venv::debian()?, "raw:app")
        .class(class)
        .threads(2)
        .start()
}

/// Two requests of a connection, unless its worker keeps none, and one that fails.
fn talk(server: &GunicornServer) -> Result<Vec<(String, u16, u64, u64)>> {
    let slow = Request::get("/slow?seconds=0.1");
    let upload = Request::new("POST", "/upload").body(vec![b'u'; 10_000]);
    let raises = Request::get("/raises");
    let mut client = Client::connect(server.port)?;
    let mut expected = Vec::new();
    for request in [&slow, &upload, &raises] {
        let response = client.request(request)?;
        expected.push((
            request.path().to_owned(),
            response.status,
            u64::try_from(request.body_bytes())?,
            response.body_bytes,
        ));
        if response.closes {
            client = Client::connect(server.port)?;
        }
    }
    Ok(expected)
}

/// The records of a talk to each class, which have route, status and sizes.
fn recorded(start: impl Fn(u32) -> Result<Observer>) -> Result<Vec<(&'static str, Vec<Fact>)>> {
    let mut all = Vec::new();
    for class in CLASSES {
        let server = server(class)?;
        let observer = start(server.pid())?;
        let expected = talk(&server)?;
        let metrics = observer.wait_for_requests(server.pid(), expected.len())?;
        compare::nothing_lost(&metrics)?;
        let facts = observer::replay_requests(&observer.stop()?.recording())?;
        for (fact, (path, status, sent, received)) in facts.iter().zip(expected) {
            let seen = (fact.path.as_deref(), fact.status, fact.request_body_bytes);
            let wanted = (Some(path.as_str()), Some(status), Some(sent));
            ensure!(seen == wanted, "{class}: {fact:#?}");
            // Without writes nothing shows the size of Gunicorn's own error page.
            let is_unseen = fact.error_handled && fact.first_write_ns.is_none();
            let wanted = (!is_unseen).then_some(received);
            let body = fact.response_body_bytes;
            ensure!(body == wanted, "{class}, {received}: {fact:#?}");
            ensure!(
                fact.duration_ns.is_some_and(|ns| ns > 0),
                "{class}: {fact:#?}"
            );
            ensure!(fact.times_ns().is_sorted(), "{class}: {fact:#?}");
        }
        ensure!(facts[0].duration_ns >= Some(SLEPT_NS), "{:#?}", facts[0]);
        all.push((class, facts));
    }
    Ok(all)
}

#[test]
fn without_control_groups_the_queue_runs_to_the_first_read() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for (class, facts) in recorded(|pid| Observer::record_without_control_groups(&[pid]))? {
        for fact in facts {
            let is_first = fact.ordinal == 0;
            let wanted: &[&str] = if is_first {
                &["app", "queue", "read", "write"]
            } else {
                &["app", "read", "write"]
            };
            ensure!(fact.phases() == wanted, "{class}: {fact:#?}");
            let queue = fact.phases_ns.get("queue").copied();
            let waited = fact.first_read_ns.zip(fact.established_ns);
            let waited = waited.map(|(read, established)| read - established);
            ensure!(queue == waited, "{class}: {fact:#?}");
        }
    }
    Ok(())
}

#[test]
fn without_control_groups_doctor_and_a_metric_say_why() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = server("sync")?;
    let observer = Observer::record_without_control_groups(&[server.pid()])?;
    let metrics = observer.scrape()?;
    let reason = metrics
        .all("gunicorn_observer_feature", &[])
        .filter(|feature| feature.value == 0.0)
        .map(|feature| feature.label("reason").to_owned())
        .find(|reason| reason.contains("control groups"));
    let reason = reason.context("no feature is absent because of control groups")?;
    observer.stop()?;
    let program = observer::binary()?.into_os_string();
    let [command, arguments @ ..] = &cgroup::out_of_sight(&[program, "doctor".into()])[..] else {
        anyhow::bail!("no command");
    };
    let output = Command::new(command).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let is_named = |line: &&str| line.contains("control groups") && !line.starts_with("ok");
    let named = said.lines().find(is_named);
    named.with_context(|| format!("doctor does not say {reason:?}:\n{said}"))?;
    Ok(())
}

#[test]
fn entry_and_exit_alone_show_requests_with_merged_phases() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let start = |pid: u32| {
        let arguments: [OsString; 2] =
            [format!("--pid={pid}").into(), "--probes=entry-exit".into()];
        Observer::start_with(&observer::binary()?, true, arguments)
    };
    for (class, facts) in recorded(start)? {
        for fact in facts {
            let phases = fact.phases();
            ensure!(phases.contains(&"app"), "{class}: {fact:#?}");
            // The socket object of a greenlet is not read.
            let has_queue = fact.ordinal == 0 && class != "gevent";
            ensure!(phases.contains(&"queue") == has_queue, "{class}: {fact:#?}");
            let apart = phases
                .iter()
                .any(|phase| ["dispatch", "write"].contains(phase));
            ensure!(!apart, "{class}: {fact:#?}");
            // App and write are one, so that is the time in the application.
            let app = fact.phases_ns.get("app").copied();
            ensure!(
                fact.error_handled || app == fact.duration_ns,
                "{class}: {fact:#?}"
            );
        }
    }
    Ok(())
}
