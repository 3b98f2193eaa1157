//! Interpreters whose files were renamed, replaced or removed.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::Request,
    compare,
    gunicorn::{Builder, GunicornServer},
    interpreter::Copy,
    observer::Observer,
    skip,
    venv::Venv,
};

const REQUESTS: usize = 5;

#[test]
fn an_interpreter_that_was_replaced_on_disk_is_observed() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for venv in Venv::all()? {
        let copy = Copy::new(&venv, "python3.11")?;
        let builder = copy.gunicorn(Builder::new(&venv, "raw:app"));
        let first = builder.start()?;
        copy.replace()?;
        let deleted = format!("{}/", copy.folder().display());
        let maps = fs::read_to_string(format!("/proc/{}/maps", first.pid()))?;
        let is_deleted = |line: &str| line.contains(&deleted) && line.ends_with(" (deleted)");
        ensure!(maps.lines().any(is_deleted), "not replaced: {maps}");
        let observer = Observer::run()?;
        counted(&observer, &first, 1)?;
        // The new file is another, also when it replaces one that is attached to; but the probe is
        // in the module of `datetime` where there is one, and that stays.
        let files = if maps.contains("/_datetime.") {
            [1, 1]
        } else {
            [2, 3]
        };
        let second = builder.start()?;
        counted(&observer, &second, files[0])?;
        copy.replace()?;
        let third = builder.start()?;
        counted(&observer, &third, files[1])?;
        // With no file left, what is attached still counts.
        copy.remove()?;
        for (server, asked) in [(&first, 2), (&second, 2), (&third, 2)] {
            counted_more(&observer, server, asked, files[1])?;
        }
        observer
            .stop()
            .with_context(|| format!("on {}", venv.name()))?;
    }
    Ok(())
}

/// The name of the program says nothing: its exported symbols do.
#[test]
fn an_interpreter_of_another_name_is_observed() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let venv = Venv::debian()?;
    let copy = Copy::new(&venv, "myapp-server")?;
    let builder = copy.gunicorn(Builder::new(&venv, "raw:app"));
    let before = builder.start()?;
    let observer = Observer::run()?;
    counted(&observer, &before, 1)?;
    // Found when it begins, not only by the next look at all processes.
    let after = builder.start()?;
    counted(&observer, &after, 1)?;
    // … and where its file is gone too.
    copy.remove()?;
    observer.stop()?;
    let observer = Observer::run()?;
    counted_more(&observer, &before, 1, 1)?;
    observer.stop()?;
    Ok(())
}

/// All requests since the observer knows the master are counted, by this many attachments. A request
/// that a worker was reading before then is not: on a busy machine that may be the first one.
fn counted(observer: &Observer, server: &GunicornServer, attachments: usize) -> Result<()> {
    observer.wait_until("the master", |metrics| metrics.knows_master(server.pid()))?;
    counted_more(observer, server, 1, attachments)
}

/// The same, the `asked`th time.
fn counted_more(
    observer: &Observer,
    server: &GunicornServer,
    asked: usize,
    attachments: usize,
) -> Result<()> {
    let logged = server.access_log()?.len();
    for _ in 0..REQUESTS {
        let answer = server.fetch(&Request::get("/hello"))?;
        ensure!(answer.status == 200, "answered {}", answer.status);
    }
    let logged = server.wait_for_access_log(logged + REQUESTS)?;
    let metrics = observer.wait_for_requests(server.pid(), asked * REQUESTS)?;
    let seen = logged.len() - asked * REQUESTS;
    compare::workers(&metrics, server, &logged[seen..])?;
    compare::nothing_lost(&metrics)?;
    // The metric comes a moment after their answers.
    let places = [("program", "datetime_now")];
    let expected = attachments.to_string();
    observer.wait_until(&format!("{expected} attachments"), |metrics| {
        let attached = metrics.sum("gunicorn_observer_program_attachments", &places);
        attached.to_string() == expected
    })?;
    Ok(())
}
