//! Masters of every kind start and exit under load: each request they logged is counted for its worker.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    access_log::Line,
    client::Request,
    compare, extent,
    gunicorn::{Builder, GunicornServer},
    load::Background,
    matrix::{
        place::Place,
        product::{self, Cell},
    },
    metrics::Metrics,
    observer::{Observer, binary},
    skip, wait,
};
use nix::sys::signal::Signal;

const MASTERS: usize = 30;
const WORKERS: usize = 2;
/// How long they come and go: in full, and in a quick run.
const CHURN: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(30)];
/// Each run makes the same choices.
const SEED: u64 = 9918;
/// Between the requests to one master, so that all of them together leave the two cores time to
/// start others.
const PAUSE: Duration = Duration::from_millis(60);

/// A master under load.
struct Running {
    server: GunicornServer,
    load: Background,
}

impl Running {
    fn start(place: &Place, cell: &Cell) -> Result<Self> {
        let threads = if cell.class == "gthread" { 4 } else { 1 };
        let server = Builder::new(place.python(cell)?, "cell:app")
            .class(cell.class)
            .workers(WORKERS)
            .threads(threads)
            .start_listening()
            .with_context(|| cell.to_string())?;
        let routes = ["/hello", "/chunked", "/no-content", "/nowhere", "/raises"];
        let load = Background::start(server.port, 1, routes.map(Request::get).to_vec(), || {
            thread::sleep(PAUSE);
        });
        Ok(Self { server, load })
    }

    /// Ends it as an operator does; what it logged is then final.
    fn end(mut self) -> Result<Ended> {
        drop(self.load);
        let logged = self.server.end()?;
        Ok(Ended {
            master: self.server.pid(),
            class: self.server.worker_class().to_owned(),
            logged,
        })
    }
}

/// What is left of a master.
struct Ended {
    master: u32,
    class: String,
    logged: Vec<Line>,
}

#[test]
fn masters_of_every_kind_come_and_go_and_no_request_is_missed() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let place = Place::find()?;
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut kinds = product::spanning(&product::all());
    for interpreter in product::INTERPRETERS {
        if !place.has(interpreter) {
            skip::unless_ci(&format!("no {}: `cargo xtask setup`", interpreter.name))?;
            kinds.retain(|cell| cell.interpreter != interpreter);
        }
    }
    random.shuffle(&mut kinds);
    let mut kinds = kinds.iter().cycle();
    let mut next = || {
        kinds
            .next()
            .context("no interpreter of the matrix: `cargo xtask setup`")
    };

    let observer = Observer::start_with(&binary()?, false, ["--keep-ended", "1h"])?;
    let mut running = Vec::new();
    let mut ended = Vec::new();
    for _ in 0..MASTERS {
        running.push(Running::start(&place, next()?)?);
    }
    let begun = Instant::now();
    let [full, quick] = CHURN;
    while begun.elapsed() < extent::of(full, quick) {
        let one = random.usize(..running.len());
        if random.u8(..4) == 0 {
            running[one].server.signal(Signal::SIGHUP)?;
        } else {
            ended.push(running.swap_remove(one).end()?);
            running.push(Running::start(&place, next()?)?);
        }
    }
    for one in running {
        ended.push(one.end()?);
    }
    ensure!(ended.len() > MASTERS, "no master was replaced");
    all_is_counted(&observer, &ended)?;
    observer.stop()?;
    Ok(())
}

fn all_is_counted(observer: &Observer, ended: &[Ended]) -> Result<()> {
    let by = ["master_pid", "worker_pid", "worker_class"];
    let lines = ended
        .iter()
        .flat_map(|one| one.logged.iter().map(move |line| (one, line)));
    let expected = compare::counted(lines.map(|(one, line)| {
        vec![
            one.master.to_string(),
            line.pid.to_string(),
            one.class.clone(),
        ]
    }));
    let total: f64 = expected.values().sum();
    let is_all = |metrics: &Metrics| metrics.sum("gunicorn_worker_requests_total", &[]) >= total;
    // Differences are reported below.
    let _ = wait::until("all requests", || {
        Ok(is_all(&observer.scrape()?).then_some(()))
    });
    let metrics = observer.scrape()?;
    let lost = metrics.sum_by("gunicorn_observer_lost_total", &[], &["cause"]);
    ensure!(total > 0.0, "nothing was logged");
    println!("{} masters, {total} requests, lost: {lost:?}", ended.len());
    let counted = metrics.sum_by("gunicorn_worker_requests_total", &[], &by);
    compare::equal("requests by worker", &counted, &expected)?;
    compare::equal("losses", &lost, &BTreeMap::new())
}
