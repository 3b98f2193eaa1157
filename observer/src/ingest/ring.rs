//! The ring buffer that the eBPF programs write to.

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData, RingBuf};
use tokio::io::unix::AsyncFd;

/// Records of one drain at most, so that other work gets its turn.
const BATCH: usize = 65_536;

/// The reader of the ring buffer.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    alarm: Array<MapData, u32>,
}

impl Ring {
    /// A reader of this ring buffer; inside a tokio runtime.
    ///
    /// # Errors
    /// When the ring buffer cannot be polled.
    pub fn new(ring: RingBuf<MapData>, alarm: Array<MapData, u32>) -> Result<Self> {
        // SAFETY: the ring buffer owns its descriptor, always returns that one, and
        // closes it only when it is dropped, after the registration.
        let ring = unsafe { AsyncFd::register(ring) }?;
        Ok(Self { ring, alarm })
    }

    /// The next record wakes the reader, and clears the alarm.
    ///
    /// # Errors
    /// When the kernel refuses to write the map.
    pub fn set_alarm(&mut self) -> Result<()> {
        self.alarm
            .set(0, 1, 0)
            .context("cannot write the ALARM map")
    }

    /// Waits until the programs wake the reader. They do so for the record after [`Self::set_alarm`],
    /// for rare records and for a filling buffer only: drain the buffer at intervals, too.
    ///
    /// # Errors
    /// When polling fails.
    pub async fn ready(&self) -> Result<()> {
        self.ring.readable().await?.clear_ready();
        Ok(())
    }

    /// Hands every waiting record to `take`.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8])) {
        let ring = self.ring.get_mut();
        for _ in 0..BATCH {
            let Some(record) = ring.next() else { break };
            take(&record);
        }
    }
}
