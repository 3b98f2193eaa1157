//! Reads the stack of the worker that is looked at, in a thread of its own.

use super::state::Update;
use crate::cpython::files::Files;
use crate::gunicorn::thread_dump;
use crate::process::procfs::ProcFs;
use anyhow::{Context as _, Result, bail};
use observer_model::event::Pid;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Who reads stacks.
pub struct Stacks {
    ask: Sender<(Pid, Pid)>,
}

impl Stacks {
    /// Starts it. What it reads goes to `tell`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(tell: Sender<Update>) -> Result<Self> {
        let (ask, asked) = channel();
        std::thread::Builder::new()
            .name("stacks".to_owned())
            .spawn(move || answer(&asked, &tell))
            .context("cannot start a thread")?;
        Ok(Self { ask })
    }

    /// Asks for the stack of a worker of that master.
    pub fn ask(&self, worker: Pid, master: Pid) {
        // It ends after us.
        let _ = self.ask.send((worker, master));
    }
}

fn answer(asked: &Receiver<(Pid, Pid)>, tell: &Sender<Update>) {
    let mut files = Files::default();
    while let Ok((pid, master)) = asked.recv() {
        let stack = of_worker(pid, master, &mut files).map_err(|error| format!("{error:#}"));
        if tell.send(Update::Stack { pid, stack }).is_err() {
            return;
        }
    }
}

fn of_worker(pid: Pid, master: Pid, files: &mut Files) -> Result<Vec<String>> {
    // A daemon behind a forwarded port has other processes than this host.
    let procfs = ProcFs::of_host()?;
    match procfs.process(pid) {
        Ok(process) if process.parent != master => bail!(
            "process {pid} of this host is no worker of {master}: run `sudo gunicorn-observer stack \
             {pid}` where the daemon runs"
        ),
        _ => thread_dump::lines(pid, files),
    }
}
