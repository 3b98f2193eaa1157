//! Measures how many records of requests one core decodes and counts a second: of a simulated fleet,
//! whose records are in memory as in the ring buffer, and of a recording of a real Gunicorn, read
//! from a file. `cargo xtask bench replay` runs it.

#[path = "../examples/fleet/stream.rs"]
#[allow(dead_code, reason = "examples need more of it")]
mod stream;

use anyhow::{Context as _, Result};
use observer::ingest::batch::Batch;
use observer::ingest::decode;
use observer::ingest::replay::Replay;
use observer_model::input::Input;
use observer_model::{Settings, State};
use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};
use stream::{Fleet, S};

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/shop.rec");
const FLEETS: [Fleet; 2] = [
    Fleet {
        apps: 1,
        workers: 4,
        routes: 20,
    },
    Fleet {
        apps: 50,
        workers: 20,
        routes: 200,
    },
];
/// Records that are there at once: as many as the ring buffer has room for, or less.
const BATCH: usize = 4096;
/// Batches of one round.
const BATCHES: usize = 50;
const ROUNDS: usize = 21;
/// Requests a second of the simulated time.
const RATE: u64 = 1000;
/// The recording is short: it is read so often in a round.
const READS: u32 = 50;

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "| records | decoded, ns each | and counted, ns each | that is, records a second |\n|---|---|---|---|"
    )?;
    for fleet in FLEETS {
        let Fleet {
            apps,
            workers,
            routes,
        } = fleet;
        writeln!(
            out,
            "| apps: {apps}, workers of each: {workers}, routes of each: {routes} | {}",
            of_fleet(&fleet)
        )?;
    }
    writeln!(out, "| a recording, facts and all | {}", of_recording()?)?;
    Ok(())
}

/// Nanoseconds of each record in each round.
#[derive(Default)]
struct Times {
    decoding: Vec<f64>,
    both: Vec<f64>,
}

impl Times {
    #[expect(clippy::cast_precision_loss, reason = "a mean is a float")]
    fn add(&mut self, decoding: Duration, both: Duration, records: usize) {
        let each = |time: Duration| time.as_nanos() as f64 / records as f64;
        self.decoding.push(each(decoding));
        self.both.push(each(both));
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rates: Vec<f64> = self.both.iter().map(|both| 1e9 / both).collect();
        let [decoding, both, rates] = [&self.decoding, &self.both, &rates].map(|values| {
            let mut values = values.clone();
            values.sort_unstable_by(f64::total_cmp);
            [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
        });
        let ns = |[low, median, high]: [f64; 3]| format!("{median:.0} ({low:.0}–{high:.0})");
        let [low, median, high] = rates.map(|rate| rate / 1e6);
        write!(
            f,
            "{} | {} | {median:.2} million ({low:.2}–{high:.2}) |",
            ns(decoding),
            ns(both)
        )
    }
}

/// Each round goes on where the one before ended, as a daemon does.
fn of_fleet(fleet: &Fleet) -> Times {
    let mut state = State::new(Settings::default());
    for (time_ns, fact) in fleet.begin() {
        state.apply(&Input::Fact { time_ns, fact });
    }
    let mut times = Times::default();
    let mut batch = Batch::default();
    let mut numbers = 0..;
    for _ in 0..ROUNDS {
        let (mut decoding, mut both) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..BATCHES {
            let these = numbers.by_ref().take(BATCH);
            let records: Vec<Vec<u8>> = these
                .map(|number| fleet.request(number, 1000 * S + number * S / RATE))
                .collect();
            let begin = Instant::now();
            for record in &records {
                black_box(decode::input(record));
            }
            decoding += begin.elapsed();
            let begin = Instant::now();
            for record in &records {
                if let Some(input) = batch.decode(record, &mut state) {
                    batch.apply(&input, &mut state);
                }
            }
            batch.flush(&mut state);
            both += begin.elapsed();
            // As it comes each second: what was served until then need not be kept any longer.
            let time_ns = 1000 * S + numbers.start * S / RATE;
            let fact = fleet.in_flight(time_ns);
            state.apply(&Input::Fact { time_ns, fact });
        }
        times.add(decoding, both, BATCH * BATCHES);
    }
    black_box(state);
    times
}

fn of_recording() -> Result<Times> {
    let file = std::fs::read(RECORDING).with_context(|| format!("cannot read {RECORDING}"))?;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let mut records = 0;
        let begin = Instant::now();
        for _ in 0..READS {
            for input in Replay::new(&*file)? {
                black_box(input?);
                records += 1;
            }
        }
        let decoding = begin.elapsed();
        let begin = Instant::now();
        for _ in 0..READS {
            let mut state = State::new(Settings::default());
            for input in Replay::new(&*file)? {
                state.apply(&input?);
            }
            black_box(state);
        }
        times.add(decoding, begin.elapsed(), records);
    }
    Ok(times)
}
