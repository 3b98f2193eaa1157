//! Counts and states of the observer itself.

use crate::event::{Event, Pid};
use crate::fact::{KernelTotals, Kubernetes, Started, TargetLevel, Usage};
use std::collections::BTreeMap;

/// Counts and states of the observer.
#[derive(Debug, Default)]
pub struct SelfMetrics {
    pub started: Option<Started>,
    pub kernel: KernelTotals,
    /// Entries of the programs' maps.
    pub map_entries: BTreeMap<String, u64>,
    pub usage: Option<Usage>,
    pub kubernetes: Option<Kubernetes>,
    /// By reason; empty without `--app-metrics`.
    pub app_metrics_errors: BTreeMap<String, u64>,
    pub levels: BTreeMap<Pid, TargetLevel>,
    pub requests: u64,
    pub forks: u64,
    pub execs: u64,
    pub exits: u64,
    pub exceptions: u64,
    pub captured_frames: u64,
    pub signals: u64,
    pub ooms: u64,
    pub stacks: u64,
    pub gcs: u64,
    /// Records of lost connections.
    pub losses: u64,
    /// Records that could not be decoded, by cause.
    pub malformed: BTreeMap<&'static str, u64>,
    /// Requests of processes that no master claimed.
    pub unclaimed_requests: u64,
}

impl SelfMetrics {
    /// Counts an event.
    pub fn event(&mut self, event: &Event) {
        let count = match event {
            Event::Request(_) => &mut self.requests,
            Event::Fork { .. } => &mut self.forks,
            Event::Exec { .. } => &mut self.execs,
            Event::Exit { .. } => &mut self.exits,
            Event::Exception(_) => &mut self.exceptions,
            Event::CapturedFrame(_) => &mut self.captured_frames,
            Event::Signal { .. } => &mut self.signals,
            Event::Oom { .. } => &mut self.ooms,
            Event::Stack(_) => &mut self.stacks,
            Event::Gc { .. } => &mut self.gcs,
            Event::Lost { .. } => &mut self.losses,
            Event::DeepCaptureExhausted { .. } => return,
        };
        *count += 1;
    }

    /// Wall clock minus monotonic clock.
    #[must_use]
    pub fn wall_offset_ns(&self) -> i64 {
        self.started
            .as_ref()
            .map_or(0, |started| started.wall_offset_ns)
    }
}
