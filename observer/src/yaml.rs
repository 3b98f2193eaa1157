//! YAML files that operators write, in Prometheus' formats.

use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;

/// Parses a file; an empty one is `T::default`. `document` names the page of docs with its keys.
///
/// # Errors
/// With the line or the key that is wrong, never with its value.
pub fn parse<T: DeserializeOwned + Default>(text: &str, document: &str) -> Result<T> {
    let mut options = serde_saphyr::Options::default();
    // A line may hold a password, which must not be logged.
    options.with_snippet = false;
    let file: Option<T> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let what = error.to_string();
        let what = what.lines().next().unwrap_or_default();
        anyhow!("is wrong in line {line}: {what}; {document} has its keys")
    })?;
    Ok(file.unwrap_or_default())
}
