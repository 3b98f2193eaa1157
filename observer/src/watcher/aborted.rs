//! Stacks of workers that are aborted and cannot take the signal.

use super::Watcher;
use crate::cpython::files::Files;
use crate::cpython::position::Position;
use crate::gunicorn::stacks::Stack;
use crate::gunicorn::thread_dump;
use crate::ingest::names;
use observer_model::event::Pid;
use observer_model::fact::{Fact, ThreadFrame, ThreadStack};
use probe_ebpf::abi::Role;

impl Watcher {
    /// Reads the stacks of a worker that is stopped, or waits for a disk, from outside: the programs read
    /// those of others when the signal is delivered. Its master kills it about a second later.
    pub(super) fn aborted(&mut self, pid: Pid) {
        if self.role(pid) != Some(Role::Worker) || !self.tree.procfs().takes_no_signal(pid) {
            return;
        }
        match thread_dump::stacks_of(pid, &mut Files::default()) {
            Ok(stacks) => {
                let stacks = stacks.into_iter().map(fact).collect();
                self.send(Fact::Stacks { pid, stacks });
            }
            Err(error) => tracing::debug!(pid, "cannot read the stacks of a worker: {error}"),
        }
    }
}

fn fact(stack: Stack) -> ThreadStack {
    let is_serving = stack.request.is_some();
    let request = stack.request.unwrap_or_default();
    ThreadStack {
        tid: stack.tid.unwrap_or(0),
        is_main: stack.is_main,
        is_serving,
        method: request.method,
        path: request.path,
        frames: stack.frames.into_iter().map(frame).collect(),
        is_cut: stack.is_cut || stack.is_changing,
    }
}

fn frame(position: Position) -> ThreadFrame {
    let path = position.file.unwrap_or_default();
    let function = position.function.unwrap_or_default();
    ThreadFrame {
        is_own: names::is_own(path.raw()),
        file: names::file(path.raw()).into(),
        function: names::function(function.raw()).to_owned().into(),
        line: position.line,
    }
}
