//! The end, as a parameter: SIGTERM, SIGINT, or whatever else says so.

use anyhow::{Context as _, Result};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells everything that the end has come.
#[derive(Clone)]
pub struct Stop {
    told: Arc<watch::Sender<bool>>,
}

impl Stop {
    /// Comes at SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub fn on_signal() -> Result<Self> {
        let stop = Self {
            told: Arc::new(watch::Sender::new(false)),
        };
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let told = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            told.stop();
        });
        Ok(stop)
    }

    /// The end has come.
    pub fn stop(&self) {
        self.told.send_replace(true);
    }

    /// Until it has.
    pub async fn wait(self) {
        // The sender lives as long as `self`.
        let _ = self.told.subscribe().wait_for(|&told| told).await;
    }

    /// Something whose end stops everything.
    #[must_use]
    pub fn on_drop(self) -> StopOnDrop {
        StopOnDrop(self)
    }
}

/// Its end stops everything.
pub struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
