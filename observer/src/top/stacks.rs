//! Reads the stack of the selected worker, in a thread of its own.

use super::state::Update;
use crate::cpython::files::Files;
use crate::gunicorn::thread_dump;
use crate::process::procfs::ProcFs;
use anyhow::{Context as _, Result, bail};
use observer_model::event::Pid;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The thread that reads stacks.
pub struct Stacks {
    requests: Sender<(Pid, Pid)>,
}

impl Stacks {
    /// Starts the thread. It sends stacks to `updates`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(updates: Sender<Update>) -> Result<Self> {
        let (requests, received) = channel();
        std::thread::Builder::new()
            .name("stacks".to_owned())
            .spawn(move || answer(&received, &updates))
            .context("failed to start a thread")?;
        Ok(Self { requests })
    }

    /// Asks for the stack of a worker of this master.
    pub fn ask(&self, worker: Pid, master: Pid) {
        // The thread outlives this sender.
        let _ = self.requests.send((worker, master));
    }
}

fn answer(requests: &Receiver<(Pid, Pid)>, updates: &Sender<Update>) {
    let mut files = Files::default();
    while let Ok((pid, master)) = requests.recv() {
        let stack = of_worker(pid, master, &mut files).map_err(|error| format!("{error:#}"));
        if updates.send(Update::Stack { pid, stack }).is_err() {
            return;
        }
    }
}

fn of_worker(pid: Pid, master: Pid, files: &mut Files) -> Result<Vec<String>> {
    // A daemon behind a forwarded port has other processes than this host.
    let procfs = ProcFs::of_host()?;
    match procfs.process(pid) {
        Ok(process) if process.parent != master => bail!(
            "process {pid} of this host is no worker of master {master}; run `sudo \
             gunicorn-observer stack {pid}` on the daemon's host"
        ),
        _ => thread_dump::lines(pid, files),
    }
}
