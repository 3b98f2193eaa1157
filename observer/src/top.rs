//! `top`: what is observed, on a terminal.
//!
//! ```text
//! daemon, or engine ──> source ──Update──┐
//! stacks ────────────────────────Update──┴─> State ──> view ──> terminal
//! keys ──> input ────────────────Action──────^
//! ```
//!
//! - [`columns`]: the panes and their columns; [`rows`]: what is in them, of a view
//! - [`state`]: what is shown, pure; [`past`]: the history; [`input`]: what keys mean
//! - [`view`]: how that looks, pure; [`screen`]: the terminal
//! - [`source`], [`sse`], [`http_config`]: where it comes from; [`stacks`]: Python stacks; [`log`]: what is logged

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

/// What comes is shown that late at most; keys at once.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Ages are drawn anew, and stacks read anew.
const TICK_EVERY: Duration = Duration::from_secs(1);

/// How it looks, and what was logged.
#[derive(Clone, Debug, Default)]
pub struct Appearance {
    pub no_color: bool,
    pub log: Log,
}

/// Shows what a daemon says, until somebody quits or a signal comes.
///
/// # Errors
/// When there is no terminal, the file of `--http-config` is wrong, or the daemon does not answer
/// at first.
pub fn connected(
    daemon: &Daemon,
    http_config: Option<&Path>,
    appearance: &Appearance,
) -> Result<()> {
    screen::check()?;
    let credentials = Credentials::read(http_config)?;
    // Before there are threads, so that all of them leave the signals to the one that waits.
    let signals = stop_signals()?;
    let (tell, told) = channel();
    source::connect(daemon, credentials, tell.clone())?;
    let end = tell.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.wait().is_ok() {
                // It has ended already if nobody hears.
                let _ = end.send(Update::End);
            }
        })?;
    let origin = format!("of {}", daemon.url);
    let is_root = nix::unistd::geteuid().is_root();
    let no_stacks = (!daemon.is_local || !is_root).then(|| no_stacks(daemon));
    show(State::new(origin, no_stacks), appearance, tell, &told)
}

fn stop_signals() -> Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals
        .thread_block()
        .context("signals cannot be waited for")?;
    Ok(signals)
}

fn no_stacks(daemon: &Daemon) -> String {
    let place = if daemon.is_local {
        "as root".to_owned()
    } else {
        format!("on {}", daemon.host)
    };
    format!("its stack is not read from here: run `sudo gunicorn-observer stack PID` {place}")
}

/// The screen of what this process observes by itself; ended when dropped.
pub struct Own {
    tell: Sender<Update>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Own {
    /// Takes the terminal. `ended` is dropped when somebody quits.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(appearance: &Appearance, ended: impl Send + 'static) -> Result<Self> {
        let (tell, told) = channel();
        let (appearance, own) = (appearance.clone(), tell.clone());
        let thread = std::thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || {
                let _ended = ended;
                let state = State::new("own probes".to_owned(), None);
                show(state, &appearance, own, &told)
            })?;
        Ok(Self {
            tell,
            thread: Some(thread),
        })
    }

    /// Where updates go.
    #[must_use]
    pub fn tell(&self) -> Sender<Update> {
        self.tell.clone()
    }

    /// Gives the terminal back, and says what went wrong with it, if anything did.
    ///
    /// # Errors
    /// When the terminal could not be drawn on.
    pub fn end(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        // It has ended already if nobody hears.
        let _ = self.tell.send(Update::End);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(shown)) => shown,
            Some(Err(_)) => Err(anyhow::anyhow!("the screen failed; please report it")),
            None => Ok(()),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // What made us end early is told instead.
        let _ = self.finish();
    }
}

/// Shows updates and takes keys until the end.
fn show(
    mut state: State,
    appearance: &Appearance,
    tell: Sender<Update>,
    told: &Receiver<Update>,
) -> Result<()> {
    let theme = Theme {
        has_colors: terminal::has_colors(appearance.no_color),
    };
    let stacks = Stacks::start(tell)?;
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
            draw.context("the terminal cannot be drawn on")?;
            state.drawn(drawn.page, drawn.lines);
        }
        is_new = false;
        match keys.recv_timeout(LOOK_EVERY) {
            Ok(event) => {
                is_new = true;
                if !took(event.context("the terminal cannot be read")?, &mut state) {
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Ok(update) = told.try_recv() {
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

/// What comes from the terminal. It is read by a thread that nobody waits for: once the terminal is
/// gone, reading does not return (crossterm 0.29, `event/source/unix/mio.rs`, has no end of file).
fn keys() -> Result<Receiver<std::io::Result<Event>>> {
    let (tell, told) = channel();
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            loop {
                let event = event::read();
                let is_last = event.is_err();
                if tell.send(event).is_err() || is_last {
                    return;
                }
            }
        })?;
    Ok(told)
}

/// Takes what came from the terminal. False when that is the end.
fn took(event: Event, state: &mut State) -> bool {
    match event {
        Event::Key(key) => match input::action(key, state.is_typing()) {
            Some(action) => state.act(action),
            None => true,
        },
        _ => true,
    }
}
