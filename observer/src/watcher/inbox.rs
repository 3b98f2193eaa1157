//! Notices on their way to the watcher.
//!
//! ```text
//! engine, pods ──> Notifier ── bounded queue ──> Inbox ── watcher
//!                     └ full: dropped and counted; the watcher rescans
//! ```
//!
//! The engine never waits for the watcher: the watcher waits for the engine to take its facts. Beside
//! the notices, the engine says whether there is activity.

use super::Seen;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Notices that may wait. A host that starts 1,000 programs a second fills the queue in 4 s; the
/// watcher's longest work, a scan of 10,000 processes, takes less.
const CAPACITY: usize = 4096;

/// The `cause` of `gunicorn_observer_lost_total` that counts dropped notices.
pub const DROPPED: &str = "watcher_full";

/// Both ends of a queue.
#[must_use]
pub fn channel() -> (Notifier, Inbox) {
    let (queue, notices) = sync_channel(CAPACITY);
    let shared = Arc::new(Shared::default());
    let notifier = Notifier {
        queue: Some(queue),
        shared: Arc::clone(&shared),
    };
    let inbox = Inbox {
        notices,
        shared,
        seen_dropped: 0,
    };
    (notifier, inbox)
}

#[derive(Debug, Default)]
struct Shared {
    /// Notices dropped since the start.
    dropped: AtomicU64,
    is_active: AtomicBool,
}

/// Hands notices to the watcher.
#[derive(Clone, Debug)]
pub struct Notifier {
    /// `None` once closed.
    queue: Option<SyncSender<Seen>>,
    shared: Arc<Shared>,
}

impl Notifier {
    /// Queues a notice, or drops and counts it when the queue is full. Never waits.
    pub fn notify(&self, notice: Seen) {
        let sent = self.queue.as_ref().map(|queue| queue.try_send(notice));
        // A watcher that has stopped needs no notices.
        if let Some(Err(TrySendError::Full(_))) = sent {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says whether there is activity, without waking the watcher.
    pub fn set_active(&self, is_active: bool) {
        self.shared.is_active.store(is_active, Ordering::Relaxed);
    }

    /// Ends this notifier. The watcher stops when the last one is closed or dropped.
    pub fn close(&mut self) {
        self.queue = None;
    }

    /// Notices dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// The watcher's end of the queue.
#[derive(Debug)]
pub struct Inbox {
    notices: Receiver<Seen>,
    shared: Arc<Shared>,
    /// Drops that [`Self::has_lost`] has reported.
    seen_dropped: u64,
}

impl Inbox {
    /// Waits for a notice.
    ///
    /// # Errors
    /// When none comes within `timeout`, or every notifier is closed.
    pub fn wait(&self, timeout: Duration) -> Result<Seen, RecvTimeoutError> {
        self.notices.recv_timeout(timeout)
    }

    /// The next notice, if one is queued.
    #[must_use]
    pub fn next(&self) -> Option<Seen> {
        self.notices.try_recv().ok()
    }

    /// Whether notices were dropped since the last call.
    pub fn has_lost(&mut self) -> bool {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        std::mem::replace(&mut self.seen_dropped, dropped) != dropped
    }

    /// Whether there is activity: requests, or somebody who looks.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.shared.is_active.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_counts_what_it_drops_and_then_takes_notices_again() {
        let (notifier, mut inbox) = channel();
        let capacity = u32::try_from(CAPACITY).unwrap();
        for pid in 0..capacity + 3 {
            notifier.notify(Seen::Exec { pid });
        }
        assert_eq!(notifier.dropped(), 3);
        assert!(inbox.has_lost());
        assert!(!inbox.has_lost(), "reported once");
        let queued: Vec<_> = std::iter::from_fn(|| inbox.next()).collect();
        assert_eq!(queued.len(), CAPACITY);
        assert_eq!(queued.first(), Some(&Seen::Exec { pid: 0 }));
        notifier.notify(Seen::Exit { pid: 7 });
        assert_eq!(inbox.next(), Some(Seen::Exit { pid: 7 }));
        assert_eq!((notifier.dropped(), inbox.has_lost()), (3, false));
    }

    #[test]
    fn the_inbox_ends_when_the_last_notifier_is_closed() {
        let (mut engine, inbox) = channel();
        let pods = engine.clone();
        engine.notify(Seen::PodsChanged);
        engine.close();
        engine.notify(Seen::PodsChanged);
        assert_eq!(inbox.wait(Duration::ZERO), Ok(Seen::PodsChanged));
        let waited = inbox.wait(Duration::ZERO);
        assert_eq!(waited, Err(RecvTimeoutError::Timeout));
        drop(pods);
        let waited = inbox.wait(Duration::ZERO);
        assert_eq!(waited, Err(RecvTimeoutError::Disconnected));
        assert_eq!(engine.dropped(), 0);
    }

    #[test]
    fn the_document_explains_the_cause_of_dropped_notices() {
        let document = include_str!("../../../docs/METRICS.md");
        assert!(document.contains(&format!("| `{DROPPED}` |")));
    }
}
