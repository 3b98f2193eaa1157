//! What nobody answered, or nobody waited for.

use crate::event::LostFrom;
use std::collections::BTreeMap;

/// What nobody answered, or nobody waited for, of workers of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// Connections that were closed without an answer.
    pub lost: BTreeMap<LostFrom, u64>,
    /// Requests whose client left before it had its response, and their duration.
    pub disconnects: u64,
    pub gone_ns: u64,
}

impl Unanswered {
    /// Counts connections that were closed without an answer.
    pub fn lose(&mut self, from: LostFrom, count: u64) {
        let lost = self.lost.entry(from).or_default();
        *lost = lost.saturating_add(count);
    }

    /// Counts a request whose client left before it had its response.
    pub fn leave(&mut self, duration_ns: u64) {
        self.disconnects += 1;
        self.gone_ns = self.gone_ns.saturating_add(duration_ns);
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (&from, count) in &other.lost {
            self.lose(from, *count);
        }
        self.disconnects += other.disconnects;
        self.gone_ns = self.gone_ns.saturating_add(other.gone_ns);
    }
}
