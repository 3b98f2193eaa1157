//! YAML files that operators write: those of Prometheus' kind.

use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;

/// Reads one; `T::default` of an empty one. `document` of docs has its keys.
///
/// # Errors
/// With the line or the key that is wrong, and never with what it holds.
pub fn parse<T: DeserializeOwned + Default>(text: &str, document: &str) -> Result<T> {
    let mut options = serde_saphyr::Options::default();
    // A line may hold what nobody should see in a log.
    options.with_snippet = false;
    let file: Option<T> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let what = error.to_string();
        let what = what.lines().next().unwrap_or_default();
        anyhow!("is wrong in line {line}: {what}; {document} has its keys")
    })?;
    Ok(file.unwrap_or_default())
}
