//! A host with 500 workers.

use std::{
    io::{self, Write as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use end_to_end::{
    client::Request,
    compare,
    gunicorn::{Builder, GunicornServer},
    load::Load,
    metrics::Metrics,
    observer::Observer,
    skip,
    venv::Venv,
};

const MASTERS: usize = 20;
const WORKERS: usize = 25;
/// Requests of each master.
const REQUESTS: usize = 200;
/// For so long nothing happens but what the observer does by itself.
const IDLE: Duration = Duration::from_secs(10);
/// What it may use then, in CPU seconds a second, on any machine that tests run on; and in memory.
const IDLE_CPU: f64 = 0.25;
const MEMORY_BYTES: f64 = 256.0 * 1024.0 * 1024.0;

#[test]
fn five_hundred_workers_are_counted_whole_and_cost_little() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let servers = start()?;
    let masters: Vec<u32> = servers.iter().map(GunicornServer::pid).collect();
    let observer = Observer::run_for(&masters)?;
    let metrics = observer.wait_until("every worker to be known", |metrics| {
        masters
            .iter()
            .all(|master| workers(metrics, *master) == expected())
    })?;
    let info = metrics.all("gunicorn_worker_info", &[]).count();
    ensure!(info == MASTERS * WORKERS, "{info} workers");

    let cpu = |metrics: &Metrics| metrics.sum("process_cpu_seconds_total", &[]);
    let (began, before) = (Instant::now(), cpu(&metrics));
    // A measurement, which takes its time; nothing is waited for.
    thread::sleep(IDLE);
    let used = cpu(&observer.scrape()?) - before;
    let idle_cpu = used / began.elapsed().as_secs_f64();

    for server in &servers {
        ask(server)?;
    }
    let (began, before) = (Instant::now(), cpu(&observer.scrape()?));
    for server in &servers {
        let logged = server.wait_for_access_log(REQUESTS)?;
        let metrics = observer.wait_for_requests(server.pid(), REQUESTS)?;
        compare::workers(&metrics, server, &logged)?;
    }
    let scraping_cpu = (cpu(&observer.scrape()?) - before) / began.elapsed().as_secs_f64();
    let text = observer.scrape_text()?;
    let metrics = Metrics::parse(&text)?;
    compare::nothing_lost(&metrics)?;
    let memory = metrics.sum("process_resident_memory_bytes", &[]);
    // Not by `println!`, which the test harness shows of failed tests only.
    writeln!(
        io::stderr(),
        "\n{} workers: {idle_cpu:.4} CPU seconds a second at idle, {scraping_cpu:.4} while scraped \
         as fast as it can, {:.1} MiB resident, {} KiB a scrape",
        MASTERS * WORKERS,
        memory / 1024.0 / 1024.0,
        text.len() / 1024
    )?;
    ensure!(idle_cpu < IDLE_CPU, "{idle_cpu} CPU seconds a second");
    ensure!(memory < MEMORY_BYTES, "{memory} bytes resident");
    observer.stop()?;
    Ok(())
}

fn expected() -> String {
    WORKERS.to_string()
}

fn workers(metrics: &Metrics, master: u32) -> String {
    let labels = [("master_pid", &*master.to_string())];
    metrics.sum("gunicorn_master_workers", &labels).to_string()
}

/// Forked with the application in them, so that they share their memory. One after the other: each
/// ends with the thread that started it.
fn start() -> Result<Vec<GunicornServer>> {
    let builder = Builder::new(&Venv::debian()?, "raw:app")
        .workers(WORKERS)
        .argument("--preload");
    (0..MASTERS).map(|_| builder.start()).collect()
}

fn ask(server: &GunicornServer) -> Result<()> {
    let tally = Load {
        requests: REQUESTS,
        concurrency: 4,
        routes: vec![Request::get("/hello")],
    }
    .run(server.port);
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
    Ok(())
}
