//! Finished requests one by one, as `gunicorn-observer replay FILE --requests` prints them.

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// A finished request. Unseen values are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Fact {
    pub pid: u32,
    /// `python` or `socket`: the layer that timed it.
    pub timed_by: String,
    pub method: Option<String>,
    pub path: Option<String>,
    pub status: Option<u16>,
    pub entered_ns: Option<u64>,
    pub duration_ns: Option<u64>,
    pub request_body_bytes: Option<u64>,
    pub response_bytes: Option<u64>,
    pub response_body_bytes: Option<u64>,
    pub ordinal: u32,
    pub error_handled: bool,
    pub bad_request: bool,
    pub client_gone: bool,
}

/// Reads JSON lines.
pub fn parse(lines: &str) -> Result<Vec<Fact>> {
    lines
        .lines()
        .map(|line| {
            serde_json::from_str(line).with_context(|| format!("unreadable request: {line}"))
        })
        .collect()
}
