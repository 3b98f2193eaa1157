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
    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (&from, count) in &other.lost {
            *self.lost.entry(from).or_default() += count;
        }
        self.disconnects += other.disconnects;
        self.gone_ns += other.gone_ns;
    }
}
