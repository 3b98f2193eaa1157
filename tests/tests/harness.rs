//! The guards themselves, with a real Gunicorn and without the observer: the other tests rely on them.

use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    cgroup::MemoryGroup,
    client::{Client, Request, fetch},
    gunicorn::Builder,
    load::Load,
    nginx::Nginx,
    process, skip,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;

#[test]
fn every_class_serves_and_logs_what_the_client_sees() -> Result<()> {
    for venv in Venv::all()? {
        for (class, threads) in [("sync", 1), ("gthread", 4), ("gevent", 1), ("eventlet", 1)] {
            let server = Builder::new(&venv, "shop:app")
                .class(class)
                .workers(2)
                .threads(threads)
                .start()?;
            let routes = [
                "/",
                "/products/7",
                "/search?seconds=0.01",
                "/crash",
                "/export",
            ];
            let routes = routes.into_iter().map(Request::get).collect();
            let tally = Load {
                requests: 200,
                concurrency: 8,
                routes,
            }
            .run(server.port);
            ensure!(tally.failures.is_empty(), "{class}: {:?}", tally.failures);
            let logged = server.wait_for_access_log(200)?;
            ensure!(logged.len() == 200, "{class}: {} lines", logged.len());
            for ((status, path), count) in &tally.answers {
                let lines = logged
                    .iter()
                    .filter(|line| line.status == *status && line.path == *path);
                ensure!(lines.count() == *count, "{class}: {path}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_client_sees_every_kind_of_answer() -> Result<()> {
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class("gthread")
        .threads(2)
        .start()?;
    let five_megabytes = 5 * 1024 * 1024;
    for (request, status, body_bytes, complete) in [
        (Request::get("/hello"), 200, 6, true),
        (Request::new("HEAD", "/hello"), 200, 0, true),
        (Request::get("/no-content"), 204, 0, true),
        (Request::get("/not-modified"), 304, 0, true),
        (Request::get("/chunked"), 200, 10 * 13 + 5, true),
        (Request::get("/download"), 200, five_megabytes, true),
        (Request::get("/file"), 200, five_megabytes, true),
        (Request::get("/write"), 200, 6, true),
        (Request::get("/raises-late"), 200, 6, false),
        (
            Request::new("POST", "/upload").body(vec![b'u'; 1000]),
            200,
            5,
            true,
        ),
        (
            Request::new("POST", "/upload").chunked(&[b'u'; 1000], 100),
            200,
            5,
            true,
        ),
    ] {
        let response = fetch(server.port, &request)?;
        let seen = (response.status, response.body_bytes, response.complete);
        ensure!(
            seen == (status, body_bytes, complete),
            "{}: {seen:?}",
            request.target
        );
    }
    for path in ["/raises", "/raises-in-body"] {
        let response = fetch(server.port, &Request::get(path))?;
        ensure!(
            response.status == 500 && response.closes,
            "{path}: {response:?}"
        );
    }
    Ok(())
}

#[test]
fn a_connection_is_kept_and_pipelined() -> Result<()> {
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class("gevent")
        .start()?;
    let mut client = Client::connect(server.port)?;
    let hello = Request::get("/hello");
    ensure!(
        !client.request(&hello)?.closes,
        "gevent closed a kept connection"
    );
    client.send(&[hello.bytes(), Request::get("/no-content").bytes()].concat())?;
    ensure!(client.response("GET")?.status == 200);
    ensure!(client.response("GET")?.status == 204);
    client.send_byte_by_byte(&hello.bytes())?;
    ensure!(client.response("GET")?.status == 200);
    client.send(b"GARBAGE\r\n\r\n")?;
    ensure!(client.response("GET")?.status == 400);
    Ok(())
}

#[test]
fn workers_come_and_go_as_signalled() -> Result<()> {
    let mut server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(1)
        .start()?;
    let first = server.workers();
    server.signal(Signal::SIGTTIN)?;
    let two = server.wait_for_workers(2)?;
    ensure!(two.contains(&first[0]));
    server.signal(Signal::SIGTTOU)?;
    server.wait_for_workers(1)?;
    let replaced = server.reload()?;
    ensure!(!two.contains(&replaced[0]));
    let pid = server.pid();
    drop(server);
    for pid in two.into_iter().chain(replaced).chain([pid]) {
        ensure!(!process::is_alive(pid), "process {pid} was left behind");
    }
    Ok(())
}

#[test]
fn a_busy_server_is_ended_with_its_workers() -> Result<()> {
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(2)
        .start()?;
    let workers = server.workers();
    let port = server.port;
    let slow = thread::spawn(move || fetch(port, &Request::get("/slow?seconds=30")));
    drop(server);
    ensure!(
        slow.join().is_ok_and(|answer| answer.is_err()),
        "the slow request was answered"
    );
    wait::until("the workers to end", || {
        Ok((!workers.iter().any(|worker| process::is_alive(*worker))).then_some(()))
    })
}

#[test]
fn a_memory_group_has_a_worker_killed_that_takes_more_and_not_its_master() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let group = MemoryGroup::new(256 << 20)?;
    let mut server = Builder::new(&Venv::debian()?, "hangs:app")
        .within(&group)
        .start()?;
    let worker = server.workers()[0];
    let inside = group.pids()?;
    ensure!(inside.contains(&worker) && inside.contains(&server.pid()));
    ensure!(fetch(server.port, &Request::get("/eat")).is_err());
    server.wait_for_log(&format!("Worker (pid:{worker}) was sent SIGKILL"))?;
    server.wait_for_workers(1)?;
    ensure!(fetch(server.port, &Request::get("/ok"))?.status == 200);
    Ok(())
}

#[test]
fn nginx_passes_on_and_logs_how_long_it_took() -> Result<()> {
    let server = Builder::new(&Venv::debian()?, "hangs:app").unix().start()?;
    let upstreams = [
        format!("127.0.0.1:{}", server.port),
        format!("unix:{}", server.unix_socket().display()),
    ];
    for upstream in upstreams {
        let nginx = Nginx::start(&upstream)?;
        ensure!(fetch(nginx.port, &Request::get("/7/sleep?s=0.2"))?.status == 200);
        let passed = nginx.wait_for_log(1)?;
        ensure!(passed.len() == 1 && passed[0].path == "/7/sleep");
        ensure!((190.0..2000.0).contains(&passed[0].response_ms));
        let master = nginx.pid();
        drop(nginx);
        let left = process::children(master);
        ensure!(!process::is_alive(master) && left.is_empty(), "{left:?}");
    }
    Ok(())
}

#[test]
fn a_worker_boots_as_its_application_is_set_to() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let how = folder.path().join("how");
    let mut server = Builder::new(&Venv::debian()?, "hangs:app")
        .variable("HANGS_AT_BOOT", &how.to_string_lossy())
        .start()?;
    fs::write(&how, "waits")?;
    server.signal(Signal::SIGTTIN)?;
    let workers = server.wait_for_workers(2)?;
    let waiting = *workers.iter().max().context("no workers")?;
    wait::until("the new worker to sleep in its import", || {
        Ok(process::sleeps(waiting).then_some(()))
    })?;
    fs::remove_file(&how)?;
    wait::until("it to have booted", || {
        Ok((!process::sleeps(waiting)).then_some(()))
    })
}
