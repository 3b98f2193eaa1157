//! A terminal of a fixed size with a shell in it: a tmux server of our own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{observer::binary, process, wait};

/// A bound on its exit after a SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
const PROMPT: &str = "prompt> ";

/// A terminal; stopped, with its programs, when dropped.
pub struct Tmux {
    server: Child,
    folder: TempDir,
}

impl Tmux {
    /// Starts one of this many columns and lines, and waits for its shell.
    pub fn start(columns: u16, lines: u16) -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder for tmux")?;
        // In the foreground, so that it is our child.
        let server = process::bound_to_us("tmux")
            .args(["-D", "-f", "/dev/null", "-S"])
            .arg(folder.path().join(SOCKET))
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start tmux: run `cargo xtask setup`")?;
        let mut tmux = Self { server, folder };
        wait::until("tmux to listen", || {
            if let Some(status) = tmux.server.try_wait()? {
                bail!("tmux ended with {status}: run `cargo xtask setup`");
            }
            Ok(tmux.socket().exists().then_some(()))
        })?;
        let size = (columns.to_string(), lines.to_string());
        let shell = ["new-session", "-d", "-s", "terminal"];
        let sized = ["-x", &size.0, "-y", &size.1, "sh"];
        tmux.ask(&[&shell[..], &sized[..]].concat())?;
        // What is typed before its own prompt stands is shown twice, or lost.
        tmux.wait_for("a shell", |screen| !screen.trim().is_empty())?;
        tmux.run(&format!("PS1='{PROMPT}'"))?;
        tmux.wait_for("a prompt", |screen| {
            screen.lines().any(|line| line == PROMPT.trim_end())
        })?;
        Ok(tmux)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("tmux")
            .args(["-u", "-S"])
            .arg(self.socket())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("cannot run tmux: run `cargo xtask setup`")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {arguments:?}: {said}");
        String::from_utf8(output.stdout).context("the screen is not UTF-8")
    }

    /// Its screen, without spaces at the ends of lines.
    pub fn screen(&self) -> Result<String> {
        self.ask(&["capture-pane", "-p", "-t", "terminal"])
    }

    /// The same with the escapes of its colours.
    pub fn colored_screen(&self) -> Result<String> {
        self.ask(&["capture-pane", "-p", "-e", "-t", "terminal"])
    }

    /// Presses keys (tmux's names), one after the other.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        for key in keys {
            self.ask(&["send-keys", "-t", "terminal", key])?;
        }
        Ok(())
    }

    /// Types a text.
    pub fn text(&self, text: &str) -> Result<()> {
        self.ask(&["send-keys", "-t", "terminal", "-l", text])?;
        Ok(())
    }

    /// Types a command, and Enter.
    pub fn run(&self, command: &str) -> Result<()> {
        self.text(command)?;
        self.press(&["Enter"])
    }

    /// Runs `top` of the program under test; once it has exited, the screen shows `ended` and its exit code.
    pub fn run_top(&self, arguments: &str) -> Result<()> {
        self.run_top_of(&binary()?, "", arguments)
    }

    /// The same with these variables in its environment.
    pub fn run_top_with(&self, variables: &str, arguments: &str) -> Result<()> {
        self.run_top_of(&binary()?, variables, arguments)
    }

    /// The same for this program.
    pub fn run_top_of(&self, program: &Path, variables: &str, arguments: &str) -> Result<()> {
        self.run("clear")?;
        self.wait_for("a clean screen", |screen| {
            screen.trim() == PROMPT.trim_end()
        })?;
        self.run(&format!(
            "{variables} {} top {arguments}; echo ended $?",
            program.display()
        ))
    }

    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let size = ["-x", &columns, "-y", &lines];
        self.ask(&[&["resize-window", "-t", "terminal"][..], &size[..]].concat())?;
        Ok(())
    }

    /// Whether a program uses the alternate screen.
    pub fn is_alternate(&self) -> Result<bool> {
        let said = self.ask(&["display-message", "-p", "-t", "terminal", "#{alternate_on}"])?;
        Ok(said.trim() == "1")
    }

    /// The pid of the shell's running program.
    pub fn running(&self) -> Result<u32> {
        let said = self.ask(&["display-message", "-p", "-t", "terminal", "#{pane_pid}"])?;
        let shell = said.trim().parse().context("tmux printed no pid")?;
        wait::until("the shell to run something", || {
            Ok(process::children(shell).first().copied())
        })
    }

    /// Waits until the screen is as wanted; else fails with its last contents.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let waited = wait::until(what, || {
            let screen = self.screen()?;
            Ok(wanted(&screen).then_some(screen))
        });
        waited.with_context(|| format!("on the screen:\n{}", self.screen().unwrap_or_default()))
    }

    /// Waits until `top` has exited with this code, and checks that the terminal is restored: the shell's
    /// screen, echo and cursor.
    pub fn is_given_back(&self, code: i32) -> Result<()> {
        let ended = format!("ended {code}");
        self.wait_for("the end of top", |screen| {
            screen.lines().any(|line| line.trim() == ended)
        })?;
        ensure!(!self.is_alternate()?, "the alternate screen was not left");
        let cursor = ["display-message", "-p", "-t", "terminal", "#{cursor_flag}"];
        ensure!(self.ask(&cursor)?.trim() == "1", "the cursor is hidden");
        self.run("echo back-$((1 + 1))")?;
        let screen = self.wait_for("the shell to answer", |screen| {
            screen.lines().any(|line| line.trim() == "back-2")
        })?;
        let typed = format!("{PROMPT}echo back-$((1 + 1))");
        ensure!(screen.contains(&typed), "no echo:\n{screen}");
        Ok(())
    }
}

const SOCKET: &str = "socket";

impl Drop for Tmux {
    fn drop(&mut self) {
        process::end(&mut self.server, GRACE);
    }
}
