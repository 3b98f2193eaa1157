//! Writes a record of a simulated fleet of any size, to see `replay --serve`, the dashboard and a
//! scrape of it.
//!
//! `cargo run --release -p gunicorn-observer --example fleet -- FILE [APPS [WORKERS [ROUTES]]]`

#[allow(dead_code, reason = "benches need more of it")]
mod stream;

use anyhow::{Context as _, Result};
use observer::ingest::record::Recorder;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use stream::{Fleet, S};

/// All of the time that a history has.
const SECONDS: u64 = 900;
/// Of each route.
const REQUESTS: u64 = 5;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("name the file to write")?;
    let mut number = |default| match arguments.next() {
        Some(text) => text
            .parse()
            .with_context(|| format!("`{text}` is no number")),
        None => Ok(default),
    };
    let fleet = Fleet {
        apps: number(50)?,
        workers: number(20)?,
        routes: number(200)?,
    };
    let file = File::create(&path).with_context(|| format!("cannot write {path}"))?;
    let mut recorder = Recorder::new(BufWriter::new(file))?;
    for (time_ns, fact) in fleet.begin() {
        recorder.fact(time_ns, &fact)?;
    }
    let all = fleet.apps * fleet.routes * REQUESTS;
    let mut next = 0;
    for second in 0..=SECONDS {
        let now_ns = (1000 + second) * S;
        while next * SECONDS < all * second {
            recorder.kernel(&fleet.request(next, now_ns))?;
            next += 1;
        }
        recorder.fact(now_ns, &fleet.in_flight(now_ns))?;
    }
    let now_ns = (1001 + SECONDS) * S;
    recorder.fact(now_ns, &fleet.gauges())?;
    recorder.tick(now_ns)?;
    recorder.into_inner()?.flush()?;
    Ok(())
}
