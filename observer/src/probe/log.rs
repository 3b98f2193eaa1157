//! Log lines of the eBPF programs, in builds with the feature `probe-log`.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

/// Forwards log lines of the programs to the observer's log, until the runtime ends.
///
/// # Errors
/// When the programs were built without logging.
pub(super) fn start(ebpf: &mut Ebpf) -> Result<()> {
    let logger = EbpfLogger::init(ebpf).context("the eBPF programs were built without logging")?;
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
