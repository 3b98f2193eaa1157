//! The terminal: taken for the screen, and given back whatever happens.

use anyhow::{Context as _, Result, bail};
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, terminal};
use ratatui::{Terminal, backend::CrosstermBackend};
use std::env;
use std::io::{self, IsTerminal as _, Stdout};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Checks that there is a terminal to draw on.
///
/// # Errors
/// When there is none; it names what to use instead.
pub fn check() -> Result<()> {
    const CURE: &str = "for files and pipes there are `gunicorn-observer trace` (requests) and \
                        `gunicorn-observer list --json` (masters and workers)";
    if !io::stdout().is_terminal() {
        bail!("`top` draws on a terminal, and standard output is none; {CURE}");
    }
    if env::var("TERM").is_ok_and(|term| term == "dumb") {
        bail!("`top` cannot draw on a terminal of the type `dumb`; set TERM, or {CURE}");
    }
    terminal::size().context("the size of the terminal is not known")?;
    Ok(())
}

/// A terminal that is drawn on; given back when dropped, and before a panic is told.
pub struct Screen {
    pub terminal: Terminal<CrosstermBackend<Stdout>>,
    taken: Taken,
}

/// Whether the terminal is ours now.
#[derive(Clone)]
struct Taken(Arc<AtomicBool>);

impl Taken {
    /// Gives it back, if it is not yet.
    fn give_back(&self) {
        if self.0.swap(false, Ordering::SeqCst) {
            // Where that fails there is no terminal any more.
            let _ = disable_raw_mode();
            let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        }
    }
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn take() -> Result<Self> {
        let taken = Taken(Arc::new(AtomicBool::new(true)));
        let of_panics = taken.clone();
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            of_panics.give_back();
            before(info);
        }));
        let terminal = (|| {
            enable_raw_mode()?;
            execute!(io::stdout(), EnterAlternateScreen, Hide)?;
            Terminal::new(CrosstermBackend::new(io::stdout()))
        })();
        match terminal {
            Ok(terminal) => Ok(Self { terminal, taken }),
            Err(error) => {
                taken.give_back();
                Err(error).context("the terminal cannot be drawn on; is it still there?")
            }
        }
    }

    /// False once it was given back because something panicked.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.taken.0.load(Ordering::SeqCst)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.taken.give_back();
    }
}
