//! What the operator decides about the model.

use super::finding::Thresholds;
use super::route::Pattern;

/// Settings of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Routes named by the operator, tried in order.
    pub routes: Vec<Pattern>,
    /// Routes of one app; the rest is `other`.
    pub route_limit: usize,
    /// How long what ended is still shown.
    pub keep_ended_ns: u64,
    pub thresholds: Thresholds,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            route_limit: 200,
            keep_ended_ns: 300 * 1_000_000_000,
            thresholds: Thresholds::default(),
        }
    }
}
