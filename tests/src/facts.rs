//! Finished requests one by one, as `gunicorn-observer replay FILE --requests` prints them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// A finished request. Unseen values are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Fact {
    pub pid: u32,
    /// `python`, `socket` or `task`: the layer that timed it.
    pub timed_by: String,
    pub method: Option<String>,
    pub path: Option<String>,
    pub status: Option<u16>,
    pub established_ns: Option<u64>,
    pub accepted_ns: Option<u64>,
    pub first_read_ns: Option<u64>,
    pub entered_ns: Option<u64>,
    pub first_write_ns: Option<u64>,
    pub last_write_ns: Option<u64>,
    pub exited_ns: Option<u64>,
    pub duration_ns: Option<u64>,
    pub phases_ns: BTreeMap<String, u64>,
    pub request_body_bytes: Option<u64>,
    pub response_bytes: Option<u64>,
    pub response_body_bytes: Option<u64>,
    pub ordinal: u32,
    pub error_handled: bool,
    pub bad_request: bool,
    pub client_gone: bool,
    pub was_cut: bool,
    pub worker_exited: bool,
}

impl Fact {
    /// The same without the worker and the times, which differ between runs.
    #[must_use]
    pub fn timeless(&self) -> Self {
        Self {
            method: self.method.clone(),
            path: self.path.clone(),
            status: self.status,
            request_body_bytes: self.request_body_bytes,
            response_bytes: self.response_bytes,
            response_body_bytes: self.response_body_bytes,
            ordinal: self.ordinal,
            error_handled: self.error_handled,
            bad_request: self.bad_request,
            client_gone: self.client_gone,
            was_cut: self.was_cut,
            worker_exited: self.worker_exited,
            ..Self::default()
        }
    }

    /// Its known times, in the order in which they must be.
    #[must_use]
    pub fn times_ns(&self) -> Vec<u64> {
        let times = [
            self.established_ns,
            self.accepted_ns,
            self.first_read_ns,
            self.entered_ns,
            self.first_write_ns,
            self.last_write_ns,
        ];
        times.into_iter().flatten().collect()
    }

    /// The names of its known phases.
    #[must_use]
    pub fn phases(&self) -> Vec<&str> {
        self.phases_ns.keys().map(String::as_str).collect()
    }
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
