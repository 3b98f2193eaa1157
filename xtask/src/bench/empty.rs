//! Programs that do nothing, at the places of the observer's: how they are built, and attached by
//! `observer/benches/floor.rs`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::process;
use serde::Deserialize;

use super::stand;
use crate::{command, python::DEBIAN_PYTHON, toolchain, workspace::Workspace};

/// The object with these programs, and the program that attaches them.
pub struct Empty {
    object: PathBuf,
    program: PathBuf,
}

/// Nanoseconds that an empty program takes at a hit: quartiles.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Traps {
    /// On a function of an interpreter.
    pub function: [f64; 3],
    /// On a raw tracepoint.
    pub raw: [f64; 3],
    /// At the beginning or the end of a system call.
    pub call: [f64; 3],
    /// What every system call of the host takes longer as soon as one is followed, whoever makes it.
    pub any_call: [f64; 3],
}

impl Empty {
    /// Builds both.
    pub fn build(workspace: &Workspace) -> Result<Self> {
        let folder = stand::folder(workspace).join("ebpf");
        let flags = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
        let mut build = toolchain::cargo(workspace)?;
        build
            .args([
                "build",
                "--quiet",
                "--package",
                "probe-ebpf",
                "--bin",
                "empty",
            ])
            .args(["--features", "empty", "--target", "bpfel-unknown-none"])
            .args(["-Z", "build-std=core", "--release", "--target-dir"])
            .arg(&folder)
            .env(
                "CARGO_ENCODED_RUSTFLAGS",
                [&flags, "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f"),
            );
        command::run(&mut build)?;
        Ok(Self {
            object: folder.join("bpfel-unknown-none/release/empty"),
            program: program(workspace)?,
        })
    }

    fn command(&self, what: &str, of: &str) -> Command {
        let mut command = process::bound_to_us(&self.program);
        command.arg(&self.object).args([what, of]);
        command.stderr(Stdio::inherit());
        command
    }

    /// What a hit of each kind takes here.
    pub fn traps(&self) -> Result<Traps> {
        let mut traps = self.command("traps", DEBIAN_PYTHON);
        let output = traps.output().context("cannot measure traps")?;
        ensure!(output.status.success(), "traps: {}", output.status);
        serde_json::from_slice(&output.stdout).context("the floor printed no traps")
    }

    /// Programs for the places of a worker; not yet attached.
    pub fn hold(&self, worker: u32) -> Result<Held> {
        Ok(Held(self.start("hold", worker)?))
    }

    /// Counts the system calls of a worker.
    pub fn count(&self, worker: u32) -> Result<Counting> {
        Ok(Counting(self.start("count", worker)?))
    }

    fn start(&self, what: &str, worker: u32) -> Result<Running> {
        let mut command = self.command(what, &worker.to_string());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the floor")?;
        Ok(Running {
            ask: child.stdin.take().context("no pipe to it")?,
            answers: BufReader::new(child.stdout.take().context("no pipe from it")?).lines(),
            child,
        })
    }
}

/// Where cargo built the bench.
fn program(workspace: &Workspace) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Built {
        executable: Option<PathBuf>,
    }
    let mut build = command::cargo();
    build
        .args([
            "bench",
            "--package",
            "gunicorn-observer",
            "--bench",
            "floor",
            "--no-run",
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(&workspace.root)
        .stderr(Stdio::inherit());
    println!("  $ {}", command::shown(&build));
    let output = build.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "the bench does not build");
    let messages = output.stdout.split(|&byte| byte == b'\n');
    let built = messages.filter_map(|line| serde_json::from_slice::<Built>(line).ok());
    let mut executables = built.filter_map(|built| built.executable);
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("floor-")
    };
    executables
        .rfind(is_it)
        .context("cargo does not say where the bench is")
}

/// The program that does so, until it is dropped.
struct Running {
    child: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Its answer to a line.
    fn answer(&mut self, line: &str) -> Result<String> {
        writeln!(self.ask, "{line}").context("the floor is gone")?;
        Ok(self.answers.next().context("the floor ended")??)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Programs that can be attached and detached.
pub struct Held(Running);

impl Held {
    pub fn attach(&mut self) -> Result<()> {
        self.say("on")
    }

    pub fn detach(&mut self) -> Result<()> {
        self.say("off")
    }

    fn say(&mut self, word: &str) -> Result<()> {
        let answer = self.0.answer(word)?;
        ensure!(answer == word, "the floor answered {answer}");
        Ok(())
    }
}

/// Counts system calls.
pub struct Counting(Running);

impl Counting {
    /// Those made so far, by number.
    pub fn calls(&mut self) -> Result<BTreeMap<u32, u64>> {
        let answer = self.0.answer("")?;
        serde_json::from_str(&answer).with_context(|| format!("no counts: {answer}"))
    }
}
