//! `replay FILE`: the exposition that was, or would have been, served at the end
//! of a record. The inputs after its last tick are not shown: nobody saw them.

use crate::config::Model;
use crate::ingest::replay::{Replay, ReplayError};
use crate::input::Input;
use crate::model::State;
use crate::sink::prometheus::{self, Format};
use anyhow::{Context, Result, anyhow};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Writes the exposition to `out`. Of a record that was cut off, what is intact is
/// shown before the error is returned.
///
/// # Errors
/// When the file is no intact record, and when `out` cannot be written to.
pub fn run(path: &Path, model: &Model, out: &mut impl Write) -> Result<()> {
    let name = path.display();
    let open =
        || File::open(path).with_context(|| format!("{name} cannot be opened; check the path"));
    let (end, flaw) = last_tick(open()?);
    match end {
        Some(end) => {
            let text = exposition(open()?, end, model)?;
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                // `replay FILE | head` is no failure.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                written => written.context("the exposition cannot be written")?,
            }
        }
        None if flaw.is_none() => {
            return Err(anyhow!(
                "{name} holds no tick: it was recorded for too short a time"
            ));
        }
        None => {}
    }
    match flaw {
        Some(flaw) => Err(anyhow!("{name} {flaw}")),
        None => Ok(()),
    }
}

/// A tick: how many inputs come before it, and its time.
struct Tick {
    inputs: usize,
    now_ns: u64,
}

/// The last tick of a record, and what is wrong after it.
fn last_tick(file: impl Read) -> (Option<Tick>, Option<ReplayError>) {
    let replay = match Replay::new(file) {
        Ok(replay) => replay,
        Err(error) => return (None, Some(error)),
    };
    let mut last = None;
    for (inputs, input) in replay.enumerate() {
        match input {
            Ok(Input::Tick { now_ns }) => last = Some(Tick { inputs, now_ns }),
            Ok(_) => {}
            Err(error) => return (last, Some(error)),
        }
    }
    (last, None)
}

fn exposition(file: impl Read, end: Tick, model: &Model) -> Result<String> {
    let mut state = State::new(model.settings.clone());
    for input in Replay::new(file)?.take(end.inputs + 1) {
        state.apply(&input?);
    }
    let snapshot = state.snapshot(end.now_ns);
    Ok(prometheus::encode(
        &snapshot,
        model.worker_label,
        Format::Text,
    )?)
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
