//! `replay FILE`: prints the exposition that was served last while a file was recorded, byte for
//! byte, the exposition as of its end, or its finished requests; or serves it over HTTP.

use crate::config::{Model, Show};
use crate::daemon;
use crate::ingest::replay::{Replay, ReplayError};
use crate::metrics::exposition;
use crate::metrics::exposition::Format;
use crate::trace;
use crate::trace::Line;
use anyhow::{Context, Result, anyhow};
use observer_model::fact;
use observer_model::fact::Fact;
use observer_model::input::Input;
use observer_model::{Effect, State};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

/// Writes what `show` says to `out`. The intact part of a cut recording is shown before the error is
/// returned. `model` makes the options from those of the recording.
///
/// # Errors
/// If the file is no intact recording, or `out` cannot be written to.
pub fn run(
    path: &Path,
    show: &Show,
    model: impl FnOnce(Option<fact::Settings>) -> Model,
    out: &mut impl Write,
) -> Result<()> {
    let name = path.display();
    let open =
        || File::open(path).with_context(|| format!("failed to open {name}; check the path"));
    let moments = Moments::of(open()?);
    let moment = match show {
        Show::Served => moments.served.or(moments.end),
        Show::End | Show::Requests | Show::Serve(_) => moments.end,
    };
    if let Some(moment) = moment {
        let model = model(moments.settings);
        let written = match show {
            Show::Served | Show::End => {
                let text = exposition(open()?, moment, &model)?;
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            Show::Requests => requests(open()?, moment, &model, out)?,
            Show::Serve(serve) => {
                if let Some(flaw) = &moments.flaw {
                    tracing::warn!("{name} {flaw}");
                }
                let state = state(open()?, moment, &model)?;
                return daemon::show(state, moment.now_ns, serve, model.worker_label);
            }
        };
        match written {
            // A closed pipe, as with `| head`, is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.context("failed to write the replay; check the disk space")?,
        }
    } else if moments.flaw.is_none() {
        return Err(anyhow!(
            "{name} is empty: the recording was too short; \
             record again with `gunicorn-observer record FILE`, and stop it later"
        ));
    }
    match moments.flaw {
        Some(flaw) => Err(anyhow!("{name} {flaw}")),
        None => Ok(()),
    }
}

/// A moment of a recording: the number of inputs before it, and its time.
#[derive(Clone, Copy)]
struct Moment {
    inputs: usize,
    now_ns: u64,
}

/// The moments of a recording that can be shown, and what is wrong with the file.
#[derive(Default)]
struct Moments {
    /// When the last view was served.
    served: Option<Moment>,
    /// After the last intact input.
    end: Option<Moment>,
    /// The options it was made with.
    settings: Option<fact::Settings>,
    flaw: Option<ReplayError>,
}

impl Moments {
    fn of(file: impl Read) -> Self {
        let mut moments = Self::default();
        let replay = match Replay::new(file) {
            Ok(replay) => replay,
            Err(error) => {
                moments.flaw = Some(error);
                return moments;
            }
        };
        let mut now_ns = 0;
        for (before, input) in replay.enumerate() {
            let input = match input {
                Ok(input) => input,
                Err(error) => {
                    moments.flaw = Some(error);
                    break;
                }
            };
            now_ns = input.time_ns().max(now_ns);
            let moment = Moment {
                inputs: before + 1,
                now_ns,
            };
            moments.end = Some(moment);
            match input {
                Input::Tick { now_ns } => moments.served = Some(Moment { now_ns, ..moment }),
                Input::Fact {
                    fact: Fact::Settings(settings),
                    ..
                } => {
                    moments.settings.get_or_insert(settings);
                }
                _ => {}
            }
        }
        moments
    }
}

/// The state at a moment.
fn state(file: impl Read, moment: Moment, model: &Model) -> Result<State> {
    let mut state = State::new(model.settings.clone());
    for input in Replay::new(file)?.take(moment.inputs) {
        state.apply(&input?);
        // Nobody wants them here, and a long recording has many.
        while state.poll_effect().is_some() {}
    }
    Ok(state)
}

fn exposition(file: impl Read, moment: Moment, model: &Model) -> Result<String> {
    let view = state(file, moment, model)?.metrics_view(moment.now_ns);
    Ok(exposition::encode(&view, model.worker_label, Format::Text))
}

/// Writes each finished request. The inner result is that of writing.
fn requests(
    file: impl Read,
    moment: Moment,
    model: &Model,
    out: &mut impl Write,
) -> Result<io::Result<()>> {
    let mut out = BufWriter::new(out);
    let mut state = State::new(model.settings.clone());
    state.report_requests();
    for input in Replay::new(file)?.take(moment.inputs) {
        state.apply(&input?);
        while let Some(effect) = state.poll_effect() {
            let Effect::Request(finished) = effect else {
                continue;
            };
            let line = trace::Format::Json.line(&Line::Request(finished))?;
            if let Err(error) = out.write_all(line.as_bytes()) {
                return Ok(Err(error));
            }
        }
    }
    Ok(out.flush())
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
