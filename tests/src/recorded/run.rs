//! Records a worker while clients talk to it.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{
    calls::{self, Calls},
    talks::{self, At, Talk},
};
use crate::{
    client::{Place, Request},
    gunicorn::{APPS, Builder},
    matrix::{self, product::Cell},
    process,
    tls::Certificate,
    wait,
};

/// The calls that strace shows.
const TRACED: &str = "trace=network,read,readv,write,writev,close,sendfile";
/// Clients hold a connection that the worker does not close at most this long.
const CLOSED_BY: Duration = Duration::from_secs(20);

/// The recording of a cell: a heading for each conversation, and the lines of its calls.
pub fn record(place: &matrix::place::Place, cell: &Cell) -> Result<String> {
    let certificate = Arc::new(Certificate::new()?);
    let threads = if cell.class == "gthread" { 2 } else { 1 };
    let python = place
        .python(cell)?
        .importing_first(&Path::new(APPS).join("recorded"));
    let builder = Builder::new(python, "raw:app")
        .class(cell.class)
        .threads(threads);
    let plain = talks::EVERYWHERE.iter().chain(talks::PLAIN);
    let plain = recorded(cell, &builder, Place::Port, plain)?;
    let tls = builder.tls(&certificate);
    let https = |port| Place::Tls(port, Arc::clone(&certificate));
    let tls = recorded(cell, &tls, https, talks::EVERYWHERE)?;
    Ok(plain + &tls)
}

fn recorded<'a>(
    cell: &Cell,
    builder: &Builder,
    place: impl Fn(u16) -> Place,
    talks: impl IntoIterator<Item = &'a Talk>,
) -> Result<String> {
    let server = builder.start()?;
    let is_kept = cell.class != "sync";
    let at = At {
        place: place(server.port),
        is_kept,
        // Gunicorn's threads read what came with the request before from version 26 on.
        is_pipelined: is_kept && (cell.class == "gevent" || cell.gunicorn >= "26"),
    };
    let mut text = String::new();
    for (name, talk) in talks {
        let name = match at.place {
            Place::Tls(..) => format!("TLS: {name}"),
            _ => (*name).to_owned(),
        };
        let worker = *server.workers().first().context("no worker")?;
        let strace = Strace::attach(worker)?;
        let calls = talk(&at)
            .and_then(|()| {
                let logged = server.access_log()?.len();
                let last = Request::get("/fence").header("Connection", "close");
                at.connect()?.request(&last)?;
                server.wait_for_access_log(logged + 1)?;
                strace.closed()
            })
            .with_context(|| format!("{cell}: {name}"))?;
        text.push_str(&format!("\n## {name}\n{}\n", calls.lines.join("\n")));
    }
    Ok(text)
}

/// strace, attached to a process; detached when dropped.
struct Strace {
    child: Child,
    folder: TempDir,
}

impl Strace {
    fn attach(pid: u32) -> Result<Self> {
        let folder = TempDir::new()?;
        let said = folder.path().join("said");
        let child = process::bound_to_us("strace")
            .args(["-f", "-ttt", "-s", "256", "-e", TRACED, "-o"])
            .arg(folder.path().join("log"))
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(File::create(&said)?)
            .spawn()
            .context("cannot start strace")?;
        let strace = Self { child, folder };
        wait::until("strace to attach", || {
            let is_attached = fs::read_to_string(&said)?.contains(" attached");
            Ok(is_attached.then_some(()))
        })?;
        Ok(strace)
    }

    /// Waits until all accepted connections are closed; returns what was called until then.
    fn closed(mut self) -> Result<Calls> {
        let log = self.folder.path().join("log");
        let closed = wait::until_within(CLOSED_BY, "all connections to be closed", || {
            let text = fs::read_to_string(&log)?;
            let complete = text.rfind('\n').map_or("", |end| &text[..end]);
            let calls = calls::read(complete)?;
            let is_closed = calls.open == 0 && !calls.lines.is_empty();
            Ok(is_closed.then_some(()))
        });
        process::signal(self.child.id(), Signal::SIGTERM)?;
        self.child.wait()?;
        let text = fs::read_to_string(&log)?;
        closed.with_context(|| text.clone())?;
        calls::read(&text)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        process::end(&mut self.child, Duration::from_secs(5));
    }
}
