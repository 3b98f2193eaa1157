//! Empty programs, and programs that count, at the hooks of the observer's: how they are built, and
//! attached by `observer/examples/hooks.rs`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::process;
use serde::{Deserialize, de::DeserializeOwned};

use super::stand;
use crate::{command, toolchain, workspace::Workspace};

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A function of an interpreter.
    Uprobe,
    /// A raw tracepoint.
    Raw,
    /// The control group above all others.
    Cgroup,
    /// The begin or the end of a system call.
    Syscall,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Uprobe => "uprobe",
            Self::Raw => "raw tracepoint",
            Self::Cgroup => "control group",
            Self::Syscall => "begin or end of a system call",
        }
    }
}

/// The object with these programs, and the program that attaches them.
pub struct Hooks {
    object: PathBuf,
    program: PathBuf,
}

impl Hooks {
    /// Builds the object; the program is there beside the built observer.
    pub fn build(workspace: &Workspace, observer: &Path) -> Result<Self> {
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
            program: observer.with_file_name("examples/hooks"),
        })
    }

    /// The kind of each program of the observer.
    pub fn kinds(&self) -> Result<BTreeMap<String, Kind>> {
        let output = Command::new(&self.program).arg("kinds").output();
        let output = output.context("cannot start the example hooks")?;
        ensure!(output.status.success(), "no kinds: {}", output.status);
        serde_json::from_slice(&output.stdout).context("unreadable kinds")
    }

    /// Empty programs for a worker; not yet attached.
    pub fn empty(&self, worker: u32) -> Result<Empty> {
        Ok(Empty(self.start("empty", worker, &[])?))
    }

    /// Counts the hits of a process at the hooks of these programs.
    pub fn count(&self, pid: u32, programs: &[&str]) -> Result<Counting> {
        Ok(Counting(self.start("count", pid, programs)?))
    }

    fn start(&self, what: &str, pid: u32, more: &[&str]) -> Result<Running> {
        let mut child = process::bound_to_us(&self.program)
            .arg(what)
            .arg(&self.object)
            .arg(pid.to_string())
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the example hooks")?;
        Ok(Running {
            ask: child.stdin.take().context("no pipe to it")?,
            answers: BufReader::new(child.stdout.take().context("no pipe from it")?).lines(),
            child,
        })
    }
}

/// The example, until it is dropped.
struct Running {
    child: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Its answer to a line.
    fn answer<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        writeln!(self.ask, "{line}").context("the example hooks is gone")?;
        let answer = self.answers.next().context("the example hooks ended")??;
        serde_json::from_str(&answer).with_context(|| format!("unreadable answer: {answer}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs of empty programs and their nanoseconds, by kind.
pub type Runs = BTreeMap<Kind, [u64; 2]>;

/// Calls whose hooks get an empty program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// `datetime.now`.
    Function,
    /// `send`, by a raw tracepoint, and `getpeername`.
    Sockets,
    /// The begin and the end of `sendto`.
    System,
}

impl Calls {
    pub const ALL: [Self; 3] = [Self::Function, Self::Sockets, Self::System];
}

/// Empty programs that can be attached and detached.
pub struct Empty(Running);

impl Empty {
    /// Detaches what is attached, and attaches to the hooks of some calls.
    pub fn attach(&mut self, to: Calls) -> Result<Runs> {
        self.0.answer(match to {
            Calls::Function => "function",
            Calls::Sockets => "sockets",
            Calls::System => "calls",
        })
    }

    /// Detaches them.
    pub fn off(&mut self) -> Result<Runs> {
        self.0.answer("off")
    }
}

/// Counts hits.
pub struct Counting(Running);

/// Hits by program, and the system calls.
#[derive(Deserialize)]
pub struct Hits {
    #[serde(rename = "sys_enter")]
    pub calls: u64,
    #[serde(flatten)]
    pub programs: BTreeMap<String, u64>,
}

impl Counting {
    /// Those so far.
    pub fn hits(&mut self) -> Result<Hits> {
        self.0.answer("")
    }
}
