//! Waiting for a condition, never for a time.

use std::{
    env,
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Far more than anything waited for takes on a loaded machine with two cores.
pub const BOUND: Duration = Duration::from_secs(30);

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// How many times more than that, where processors are slow, as in a guest.
const PATIENCE: &str = "GUNICORN_OBSERVER_PATIENCE";

fn patience() -> u32 {
    let times = env::var(PATIENCE).ok();
    times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Looks until `look` finds something; after [`BOUND`] fails with `what` was waited for.
pub fn until<T>(what: impl Display, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(BOUND * patience(), what, look)
}

/// The same with another bound.
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
            bail!("waited {bound:?} for {what}");
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}
