//! Whether this run is a continuous integration's.

use std::env;

/// True with `CI=true` in the environment: what cannot run then fails instead of being skipped.
pub fn is_ci() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true")
}
