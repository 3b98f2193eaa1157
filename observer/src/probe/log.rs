//! What the programs log, in builds with the feature `probe-log`.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

/// Hands what the programs log to our log, until the runtime ends.
///
/// # Errors
/// When the programs were built without logging.
pub fn start(ebpf: &mut Ebpf) -> Result<()> {
    let logger = EbpfLogger::init(ebpf).context("the programs do not log")?;
    // SAFETY: the logger owns its descriptor, always returns that one, and closes
    // it only when it is dropped, after the registration.
    let mut logger = unsafe { AsyncFd::register(logger) }?;
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}
