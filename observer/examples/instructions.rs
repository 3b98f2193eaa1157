//! Does one part of the observer's work with a record, so that valgrind counts its instructions: of
//! `only_this_is_counted`, by `--toggle-collect`. `cargo xtask test cost` does that.
//!
//! `cargo run --release -p gunicorn-observer --example instructions -- FILE decode|model|scrape|view`

use anyhow::{Context as _, Result, bail};
use observer::ingest::replay::Replay;
use observer::metrics::exposition::{Format, encode};
use observer_model::input::Input;
use observer_model::settings::WorkerLabel;
use observer_model::{Settings, State};
use std::hint::black_box;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("name a record")?;
    let what = arguments.next().context("name a part")?;
    let file = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;
    if what == "decode" {
        only_this_is_counted(|| decoded(&file))?;
        return Ok(());
    }
    let inputs = decoded(&file)?;
    let now_ns = inputs.iter().map(Input::time_ns).max().unwrap_or(0);
    let mut state = State::new(Settings::default());
    let mut count = || inputs.iter().for_each(|input| state.apply(input));
    if what == "model" {
        only_this_is_counted(count);
        return Ok(());
    }
    count();
    match &*what {
        "scrape" => _ = only_this_is_counted(|| scrape(&state, now_ns)),
        "view" => _ = only_this_is_counted(|| serde_json::to_vec(&state.live_view(now_ns)))?,
        other => bail!("`{other}` is none of decode, model, scrape, view"),
    }
    Ok(())
}

#[inline(never)]
fn only_this_is_counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

fn decoded(file: &[u8]) -> Result<Vec<Input>> {
    Ok(Replay::new(file)?.collect::<Result<_, _>>()?)
}

fn scrape(state: &State, now_ns: u64) -> String {
    let view = state.metrics_view(now_ns);
    encode(&view, WorkerLabel::Pid, Format::OpenMetrics)
}
