//! `top`: a live dashboard on a terminal.
//!
//! ```text
//! daemon or engine ──> source ──Update──┐
//! stacks ───────────────────────Update──┴─> State ──> view ──> terminal
//! keys ──> input ────────────────Action──────^
//! ```
//!
//! - [`columns`]: panes and columns; [`rows`]: their rows, built from a view
//! - [`state`]: the state, pure; [`past`]: the history; [`input`]: keys
//! - [`view`]: the drawing, pure; [`screen`]: the terminal
//! - [`source`], [`sse`], [`http_config`]: the data; [`stacks`]: Python stacks; [`log`]: log lines

pub mod columns;
pub mod http_config;
pub mod input;
pub mod log;
pub mod past;
pub mod rows;
pub mod screen;
pub mod source;
pub mod sse;
pub mod stacks;
pub mod state;
#[cfg(test)]
mod test_views;
pub mod view;

use crate::terminal;
use anyhow::{Context as _, Result};
use http_config::Credentials;
use log::Log;
use nix::sys::signal::{SigSet, Signal};
use ratatui::crossterm::event::{self, Event};
use screen::Screen;
use source::Daemon;
use stacks::Stacks;
use state::{State, Update};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use view::theme::Theme;

/// Updates are drawn within this time; keys at once.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Ages are drawn, and stacks read, this often.
const TICK_EVERY: Duration = Duration::from_secs(1);

/// Colours, and the log lines to show.
#[derive(Clone, Debug, Default)]
pub struct Appearance {
    pub no_color: bool,
    pub log: Log,
}

/// Shows a daemon, until the user quits or a signal arrives.
///
/// # Errors
/// When there is no terminal, the file of `--http-config` is wrong, or the daemon does not answer the
/// first request.
pub fn connected(
    daemon: &Daemon,
    http_config: Option<&Path>,
    appearance: &Appearance,
) -> Result<()> {
    screen::check()?;
    let credentials = Credentials::read(http_config)?;
    // Before any thread starts, so that all threads block the signals and one waits for them.
    let signals = stop_signals()?;
    let (sender, updates) = channel();
    source::connect(daemon, credentials, sender.clone())?;
    let end = sender.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.wait().is_ok() {
                // The screen is gone already if this fails.
                let _ = end.send(Update::End);
            }
        })?;
    let origin = format!("of {}", daemon.url);
    let is_root = nix::unistd::geteuid().is_root();
    let no_stacks = (!daemon.is_local || !is_root).then(|| no_stacks(daemon));
    show(State::new(origin, no_stacks), appearance, sender, &updates)
}

fn stop_signals() -> Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().context("failed to block signals")?;
    Ok(signals)
}

fn no_stacks(daemon: &Daemon) -> String {
    let place = if daemon.is_local {
        "as root".to_owned()
    } else {
        format!("on {}", daemon.host)
    };
    format!("stacks cannot be read from here; run `sudo gunicorn-observer stack PID` {place}")
}

/// The screen of an observer in this process; it ends when dropped.
pub struct Own {
    updates: Sender<Update>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Own {
    /// Takes the terminal. `ended` is dropped when the user quits.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(appearance: &Appearance, ended: impl Send + 'static) -> Result<Self> {
        let (sender, updates) = channel();
        let (appearance, own) = (appearance.clone(), sender.clone());
        let thread = std::thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || {
                let _ended = ended;
                let state = State::new("own probes".to_owned(), None);
                show(state, &appearance, own, &updates)
            })?;
        Ok(Self {
            updates: sender,
            thread: Some(thread),
        })
    }

    /// The sender of updates.
    #[must_use]
    pub fn updates(&self) -> Sender<Update> {
        self.updates.clone()
    }

    /// Restores the terminal.
    ///
    /// # Errors
    /// When the terminal could not be drawn on.
    pub fn end(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        // The screen is gone already if this fails.
        let _ = self.updates.send(Update::End);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(anyhow::anyhow!("the screen panicked; please report it")),
            None => Ok(()),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The caller has an earlier error to report.
        let _ = self.finish();
    }
}

/// Shows updates and handles keys until the end.
fn show(
    mut state: State,
    appearance: &Appearance,
    sender: Sender<Update>,
    updates: &Receiver<Update>,
) -> Result<()> {
    let theme = Theme {
        has_colors: terminal::has_colors(appearance.no_color),
    };
    let stacks = Stacks::start(sender)?;
    let mut screen = Screen::take()?;
    let keys = keys()?;
    let begun = Instant::now();
    let now = || begun.elapsed().as_secs_f64();
    let mut ticked = Instant::now();
    let mut asked = None;
    let mut is_new = true;
    loop {
        if !screen.is_taken() {
            return Ok(());
        }
        if is_new {
            let mut drawn = view::Drawn::default();
            let draw = screen.terminal.draw(|frame| {
                drawn = view::draw(frame, &state, &appearance.log.lines(), theme);
            });
            draw.context("failed to draw on the terminal")?;
            state.drawn(drawn.page, drawn.lines);
        }
        is_new = false;
        match keys.recv_timeout(LOOK_EVERY) {
            Ok(event) => {
                is_new = true;
                if !handled(event.context("failed to read the terminal")?, &mut state) {
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Ok(update) = updates.try_recv() {
            is_new = true;
            if !state.take(update, now()) {
                return Ok(());
            }
        }
        let wanted = state.wanted_stack();
        if ticked.elapsed() >= TICK_EVERY || wanted != asked {
            ticked = Instant::now();
            is_new = true;
            state.tick(now());
            if let Some((worker, master)) = wanted {
                stacks.ask(worker, master);
            }
            asked = wanted;
        }
    }
}

/// Events of the terminal. Nothing waits for the thread that reads them: once the terminal is gone,
/// reading does not return (crossterm 0.29, `event/source/unix/mio.rs`, has no end of file).
fn keys() -> Result<Receiver<std::io::Result<Event>>> {
    let (sender, events) = channel();
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            loop {
                let event = event::read();
                let is_last = event.is_err();
                if sender.send(event).is_err() || is_last {
                    return;
                }
            }
        })?;
    Ok(events)
}

/// Handles an event of the terminal. False to quit.
fn handled(event: Event, state: &mut State) -> bool {
    match event {
        Event::Key(key) => match input::action(key, state.is_typing()) {
            Some(action) => state.act(action),
            None => true,
        },
        _ => true,
    }
}
