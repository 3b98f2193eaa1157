//! Worker events and findings as log lines.

use crate::trace::worker_lines;
use observer_model::findings::finding::Finding;
use observer_model::lifecycle::worker_event::WorkerEvent;

/// Characters of a text from an observed process that are logged.
const TEXT_CHARS: usize = 300;

/// Logs that a worker started or exited, or that a master exited.
pub(super) fn worker_event(event: &WorkerEvent) {
    let exit = event.exit.as_ref();
    let is_trouble = exit.is_some_and(|exit| exit.reason.is_trouble());
    for line in worker_lines::lines(event) {
        match (is_trouble, exit) {
            (true, _) => tracing::warn!("{line}"),
            (false, Some(_)) => tracing::info!("{line}"),
            (false, None) => tracing::debug!("{line}"),
        }
    }
}

/// Logs a finding when it becomes active.
pub(super) fn finding(finding: &Finding) {
    tracing::warn!(
        finding = finding.finding.as_str(),
        urgency = finding.urgency.as_str(),
        app = finding.app.for_terminal(TEXT_CHARS),
        master = finding.master_pid,
        worker = finding.worker_pid,
        evidence = finding.evidence.for_terminal(TEXT_CHARS),
        advice = &*finding.advice,
        "{}",
        finding.meaning
    );
}
