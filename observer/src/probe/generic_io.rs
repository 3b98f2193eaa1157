//! The programs on system calls that every process makes for anything, `read` and
//! `write`: attached only while a process is observed that may use them for its
//! connections, as uvloop does, because they would cost the whole host.

use super::attach;
use anyhow::Result;
use aya::Ebpf;
use observer_model::event::Pid;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Who needs them.
pub struct PlainCalls {
    users: HashSet<Pid>,
    attached: Option<attach::PlainLinks>,
    count: Arc<AtomicU32>,
}

impl PlainCalls {
    /// Nobody yet. `count` is kept at 1 while they are attached, else at 0.
    #[must_use]
    pub fn new(count: Arc<AtomicU32>) -> Self {
        Self {
            users: HashSet::new(),
            attached: None,
            count,
        }
    }

    /// Makes sure that they are attached, for master `pid` and its workers.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn need(&mut self, ebpf: &mut Ebpf, pid: Pid) -> Result<()> {
        if self.attached.is_none() {
            self.attached = Some(attach::attach_plain_calls(ebpf)?);
            self.count.store(1, Ordering::Relaxed);
        }
        self.users.insert(pid);
        Ok(())
    }

    /// Master `pid` and its workers need them no more.
    pub fn release(&mut self, ebpf: &mut Ebpf, pid: Pid) {
        self.users.remove(&pid);
        if !self.users.is_empty() {
            return;
        }
        if let Some(links) = self.attached.take() {
            self.count.store(0, Ordering::Relaxed);
            if let Err(error) = attach::detach_plain_calls(ebpf, links) {
                tracing::warn!("{error:#}");
            }
        }
    }
}
