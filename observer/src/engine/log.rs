//! Worker events and findings as log lines.

use crate::trace::worker_lines;
use crate::untrusted::shown;
use observer_model::findings::finding::Finding;
use observer_model::lifecycle::worker_event::WorkerEvent;

/// Characters of a text from an observed process that are logged.
const TEXT_CHARS: usize = 300;

/// Logs that a worker started or exited.
pub(super) fn worker_event(event: &WorkerEvent) {
    let is_trouble = event
        .ended
        .as_ref()
        .is_some_and(|ended| ended.reason.is_trouble());
    for line in worker_lines::lines(event) {
        match (is_trouble, &event.ended) {
            (true, _) => tracing::warn!("{line}"),
            (false, Some(_)) => tracing::info!("{line}"),
            (false, None) => tracing::debug!("{line}"),
        }
    }
}

/// Logs a finding when it becomes active.
pub(super) fn finding(finding: &Finding) {
    let app = shown(&finding.app, TEXT_CHARS);
    let evidence = shown(&finding.evidence, TEXT_CHARS);
    tracing::warn!(
        finding = finding.finding.as_str(),
        app,
        master_pid = finding.master_pid,
        worker_pid = finding.worker_pid,
        evidence,
        "finding"
    );
}
