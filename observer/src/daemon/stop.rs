//! The signal that everything ends by.

use anyhow::{Context as _, Result};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Stops the daemon, and says when it stops.
#[derive(Clone)]
pub struct Stop {
    is_set: Arc<watch::Sender<bool>>,
}

impl Stop {
    /// Set by SIGTERM and SIGINT.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub fn on_signal() -> Result<Self> {
        let stop = Self {
            is_set: Arc::new(watch::Sender::new(false)),
        };
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let on_signal = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            on_signal.stop();
        });
        Ok(stop)
    }

    /// Stops the daemon.
    pub fn stop(&self) {
        self.is_set.send_replace(true);
    }

    /// Whether the daemon stops.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.is_set.borrow()
    }

    /// Waits until the daemon stops.
    pub async fn wait(self) {
        // The sender lives as long as `self`.
        let _ = self.is_set.subscribe().wait_for(|&is_set| is_set).await;
    }

    /// A guard that stops the daemon when it is dropped.
    #[must_use]
    pub fn on_drop(self) -> StopOnDrop {
        StopOnDrop(self)
    }
}

/// Stops the daemon when dropped.
pub struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
