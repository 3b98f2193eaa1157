//! Waiting for a condition, never for a time.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Far more than anything waited for takes on a loaded machine with two cores.
pub const BOUND: Duration = Duration::from_secs(30);

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Looks until `look` finds something; after [`BOUND`] fails with `what` was waited for.
pub fn until<T>(what: impl Display, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(BOUND, what, look)
}

/// Likewise, with a bound that is part of what is tested.
pub fn until_within<T>(
    bound: Duration,
    what: impl Display,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > bound {
            bail!("waited {bound:?} in vain for {what}");
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}
