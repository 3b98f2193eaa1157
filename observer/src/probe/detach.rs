//! Attached programs, and a background thread for each detachment.
//!
//! To detach a program from a performance event, the kernel waits until no CPU can run it any more
//! (`kernel/trace/trace_event_perf.c`, `perf_trace_event_unreg`), about a tenth of a second; for a link of
//! `uprobe_multi` some hundredths, and next to nothing for the other links. New
//! processes must not wait for that, and detachments at the same time share part of the wait.

use aya::programs::trace_point::TracePointLink;
use aya::programs::uprobe::UProbeLink;
use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};

/// Threads that detach everything at shutdown.
const THREADS: usize = 32;

/// An attached program; dropping the link detaches it.
#[derive(Debug)]
pub enum Link {
    TracePoint(TracePointLink),
    UProbe(UProbeLink),
    /// A link of the observer's own.
    Own(OwnedFd),
}

/// Detaches programs one after the other, the last one first: the start of a call before its end, so
/// that no call is seen to begin and not to end.
pub(super) fn detach_in_reverse(links: Vec<Link>) {
    links.into_iter().rev().for_each(drop);
}

/// Detaches programs in threads; its drop waits for them.
#[derive(Debug, Default)]
pub struct Detacher {
    threads: Vec<JoinHandle<()>>,
}

impl Detacher {
    /// Detaches these one after the other, the last one first.
    pub fn detach(&mut self, links: Vec<Link>) {
        self.threads.retain(|thread| !thread.is_finished());
        if links.is_empty() {
            return;
        }
        // Without a thread, the closure and its links are dropped here.
        let thread = Builder::new().name("detach".to_owned());
        let thread = thread.spawn(move || detach_in_reverse(links));
        self.threads.extend(thread.ok());
    }

    /// Detaches these in any order.
    pub fn detach_all(&mut self, links: Vec<Link>) {
        let mut parts: Vec<Vec<Link>> = Vec::new();
        parts.resize_with(THREADS, Vec::new);
        for (part, link) in (0..THREADS).cycle().zip(links) {
            if let Some(part) = parts.get_mut(part) {
                part.push(link);
            }
        }
        for part in parts {
            self.detach(part);
        }
    }
}

impl Drop for Detacher {
    fn drop(&mut self) {
        for thread in self.threads.drain(..) {
            // The thread only drops links, and cannot fail.
            let _ = thread.join();
        }
    }
}
