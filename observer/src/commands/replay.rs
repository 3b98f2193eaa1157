//! `replay FILE`: the exposition that was, or would have been, served at the end
//! of a record, or its finished requests. The inputs after its last tick are not
//! shown: nobody saw them.

use crate::config::Model;
use crate::event::{Event, Request};
use crate::ingest::replay::{Replay, ReplayError};
use crate::input::Input;
use crate::model::State;
use crate::sink::prometheus::{self, Format};
use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// What of a record is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The exposition at its last tick.
    Metrics,
    /// Its finished requests, one JSON object a line.
    Requests,
}

/// A finished request as it is shown.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    request: &'a Request,
    duration_ns: Option<u64>,
}

/// Writes what is asked for to `out`. Of a record that was cut off, what is intact is
/// shown before the error is returned.
///
/// # Errors
/// When the file is no intact record, and when `out` cannot be written to.
pub fn run(path: &Path, show: Show, model: &Model, out: &mut impl Write) -> Result<()> {
    let name = path.display();
    let open =
        || File::open(path).with_context(|| format!("{name} cannot be opened; check the path"));
    let (end, flaw) = last_tick(open()?);
    match end {
        Some(end) => {
            let text = match show {
                Show::Metrics => exposition(open()?, end, model)?,
                Show::Requests => requests(open()?, end)?,
            };
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

fn requests(file: impl Read, end: Tick) -> Result<String> {
    let mut lines = String::new();
    for input in Replay::new(file)?.take(end.inputs + 1) {
        if let Input::Event(Event::Request(request)) = input? {
            let line = Line {
                request: &request,
                duration_ns: request.duration_ns(),
            };
            lines.push_str(&serde_json::to_string(&line)?);
            lines.push('\n');
        }
    }
    Ok(lines)
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
