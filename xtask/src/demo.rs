//! `cargo xtask demo`: the observer's counts of real Gunicorns under light load.

mod table;

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use end_to_end::{
    client::Request,
    gunicorn::{Builder, GunicornServer},
    load::Background,
    metrics::Metrics,
    observer::Observer,
    venv::Venv,
    wait,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{parts, step::make_missing, workspace::Workspace};

const REFRESH: Duration = Duration::from_secs(1);
/// With `--once`, the time between two scrapes.
const POLL: Duration = Duration::from_millis(100);
/// The time between two requests of one client.
const THINKING: Duration = Duration::from_millis(50);
/// With `--once`, the number of requests of each master before the table is printed.
const ENOUGH: f64 = 50.0;

/// Run the observer over two Gunicorns under light load
#[derive(clap::Args)]
pub struct Arguments {
    /// Print one table after a few seconds, then exit
    #[arg(long)]
    once: bool,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("loading probes needs root: run `sudo -E env \"PATH=$PATH\" cargo xtask demo`");
    }
    make_missing(parts::once(&[parts::BUILD, parts::RUN]), workspace)?;
    let binary = workspace.build_observer()?;
    // From here on Ctrl-C is a message: everything started below is dropped in order.
    let interrupted = interruption()?;
    println!("Starting two Gunicorns with tests/apps/shop.py: sync workers and gthread workers.");
    let shops = Shops::start(&Venv::all_in(&workspace.venvs())?.remove(0))?;
    let observer = Observer::start(&binary, false, &[])?;
    if arguments.once {
        once(&observer, &shops.servers, &interrupted)?;
    } else {
        follow(&observer, &interrupted)?;
    }
    observer.stop().map(|_| ())
}

/// Two Gunicorns under load, until dropped.
pub struct Shops {
    // Dropped before the servers.
    _loads: [Background; 2],
    pub servers: [GunicornServer; 2],
}

impl Shops {
    pub fn start(venv: &Venv) -> Result<Self> {
        let shop = |name: &str| {
            Builder::new(venv, "shop:app")
                .workers(2)
                .argument("--name")
                .argument(name)
        };
        let servers = [
            shop("shop").start()?,
            shop("shop-threads").class("gthread").threads(4).start()?,
        ];
        let loads = servers
            .each_ref()
            .map(|server| Background::start(server.port, 2, routes(), || thread::sleep(THINKING)));
        Ok(Self {
            _loads: loads,
            servers,
        })
    }
}

fn routes() -> Vec<Request> {
    vec![
        Request::get("/"),
        Request::get("/products"),
        Request::get("/products/7"),
        Request::new("POST", "/orders").body(vec![b'o'; 2000]),
        Request::get("/search?seconds=0.08"),
        Request::get("/products/42"),
        Request::get("/export"),
        Request::get("/products/1007"),
        Request::get("/checkout"),
        Request::new("DELETE", "/cart"),
    ]
}

/// Turns Ctrl-C and SIGTERM into a message.
fn interruption() -> Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot catch Ctrl-C")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for _ in signals.forever() {
            // Fails once the demo is over.
            let _ = sender.send(());
        }
    });
    Ok(receiver)
}

fn once(observer: &Observer, servers: &[GunicornServer], interrupted: &Receiver<()>) -> Result<()> {
    let counted = |metrics: &Metrics, server: &GunicornServer| {
        let master = server.pid().to_string();
        metrics.sum(table::REQUESTS, &[("master_pid", &master)])
    };
    let start = Instant::now();
    let first = observer.scrape()?;
    while start.elapsed() < wait::BOUND {
        let metrics = observer.scrape()?;
        let is_enough = |server| counted(&metrics, server) >= ENOUGH;
        if servers.iter().all(is_enough) {
            let table = table::rendered(&metrics, Some((&first, start.elapsed())));
            return show(observer, &table);
        }
        if is_interrupted(interrupted, POLL) {
            return Ok(());
        }
    }
    bail!(
        "the observer did not see the requests within {:?}",
        wait::BOUND
    )
}

/// Waits for this time, or until Ctrl-C.
fn is_interrupted(interrupted: &Receiver<()>, wait: Duration) -> bool {
    !matches!(
        interrupted.recv_timeout(wait),
        Err(RecvTimeoutError::Timeout)
    )
}

fn follow(observer: &Observer, interrupted: &Receiver<()>) -> Result<()> {
    let mut before: Option<(Metrics, Instant)> = None;
    loop {
        let metrics = observer.scrape()?;
        let since = before.as_ref().map(|(metrics, at)| (metrics, at.elapsed()));
        let text = table::rendered(&metrics, since);
        before = Some((metrics, Instant::now()));
        if io::stdout().is_terminal() {
            print!("\x1b[H\x1b[2J");
        }
        show(observer, &text)?;
        println!("Press Ctrl-C to stop.");
        if is_interrupted(interrupted, REFRESH) {
            return Ok(());
        }
    }
}

fn show(observer: &Observer, table: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{table}\nFrom http://127.0.0.1:{}/metrics",
        observer.port
    )?;
    Ok(out.flush()?)
}
