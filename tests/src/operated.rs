//! Load and trouble for the application `operated`.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use crate::{
    client::{Client, Request, fetch},
    gunicorn::GunicornServer,
    load::Background,
    process, wait,
};

/// Paths for `sync` workers.
pub const SYNC_PATHS: [&str; 4] = ["/ok", "/raises", "/refuses", "/collects"];
/// Paths for `gthread` workers.
pub const THREADED_PATHS: [&str; 3] = ["/ok", "/burns", "/collects"];

/// Some hundred requests a second, to leave the machine time for other work.
pub fn load(server: &GunicornServer, paths: &[&str]) -> Background {
    let upload = Request::new("POST", "/upload").body(vec![b'u'; 5000]);
    let paths = paths.iter().map(|path| Request::get(path));
    let routes = paths.chain([upload]).collect();
    let pause = || thread::sleep(Duration::from_millis(5));
    Background::start(server.port, 2, routes, pause)
}

/// A timeout, a kill, a bad request, a reload: each in Gunicorn's own log.
pub fn trouble(sync: &mut GunicornServer, threaded: &mut GunicornServer) -> Result<()> {
    let port = sync.port;
    // It is cut when its worker is aborted.
    let hung = thread::spawn(move || fetch(port, &Request::get("/hangs")));
    sync.wait_for_log("WORKER TIMEOUT")?;
    ensure!(hung.join().is_ok(), "a client panicked");
    let workers = sync.wait_for_workers(2)?;
    let victim = workers.first().context("no worker")?;
    process::signal(*victim, Signal::SIGKILL)?;
    wait::until("another worker", || {
        let workers = sync.workers();
        Ok((workers.len() == 2 && !workers.contains(victim)).then_some(()))
    })?;
    threaded.reload()?;
    let mut client = Client::connect(sync.port)?;
    client.send(b"no request\r\n\r\n")?;
    let answer = client.response("GET")?;
    ensure!(answer.status == 400, "answered {}", answer.status);
    Ok(())
}
