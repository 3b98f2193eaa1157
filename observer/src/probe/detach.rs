//! Attached programs, and how they are detached: beside everything else.
//!
//! The kernel waits at each until nobody can run the program any more (`kernel/trace/trace_event_perf.c`,
//! `perf_trace_event_unreg`), about a tenth of a second. Processes that come meanwhile must not wait,
//! too; and what is detached at the same time waits in part together.

use aya::programs::raw_trace_point::RawTracePointLink;
use aya::programs::trace_point::TracePointLink;
use aya::programs::uprobe::UProbeLink;
use std::thread::{Builder, JoinHandle};

/// Threads that detach at the end.
const THREADS: usize = 32;

/// A program that is attached, until this is dropped.
#[derive(Debug)]
pub enum Link {
    RawTracePoint(RawTracePointLink),
    TracePoint(TracePointLink),
    UProbe(UProbeLink),
}

/// Detaches programs; the end of it waits for all of them.
#[derive(Debug, Default)]
pub struct Detacher {
    threads: Vec<JoinHandle<()>>,
}

impl Detacher {
    /// Detaches these, one after the other.
    pub fn detach(&mut self, links: Vec<Link>) {
        self.threads.retain(|thread| !thread.is_finished());
        if links.is_empty() {
            return;
        }
        // Where no thread can be had, the links are dropped here.
        let thread = Builder::new().name("detach".to_owned());
        self.threads.extend(thread.spawn(move || drop(links)).ok());
    }

    /// Detaches these, in any order.
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
            // It drops, and nothing else.
            let _ = thread.join();
        }
    }
}
