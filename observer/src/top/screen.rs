//! The terminal: taken for the screen, and restored whatever happens.

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
/// When there is none; the error names alternatives.
pub fn check() -> Result<()> {
    const FIX: &str = "for files and pipes, use `gunicorn-observer trace` (requests) or \
                       `gunicorn-observer list --json` (masters and workers)";
    if !io::stdout().is_terminal() {
        bail!("`top` needs a terminal, but standard output is not one; {FIX}");
    }
    if env::var("TERM").is_ok_and(|term| term == "dumb") {
        bail!("`top` cannot draw on a terminal of the type `dumb`; set TERM, or {FIX}");
    }
    terminal::size().context("failed to get the size of the terminal")?;
    Ok(())
}

/// The terminal of the screen; restored when dropped, and before a panic is printed.
pub struct Screen {
    pub terminal: Terminal<CrosstermBackend<Stdout>>,
    taken: Taken,
}

/// Whether `top` owns the terminal now.
#[derive(Clone)]
struct Taken(Arc<AtomicBool>);

impl Taken {
    /// Restores the terminal, unless that is done.
    fn give_back(&self) {
        if self.0.swap(false, Ordering::SeqCst) {
            // If that fails, the terminal is gone.
            let _ = disable_raw_mode();
            let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        }
    }
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn take() -> Result<Self> {
        let taken = Taken(Arc::new(AtomicBool::new(true)));
        let on_panic = taken.clone();
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            on_panic.give_back();
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
                Err(error).context("failed to set up the terminal")
            }
        }
    }

    /// False once the terminal was restored because of a panic.
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
