//! The last fifteen minutes, in points of five seconds: the first event of `/api/v1/events`.

use super::Point;
use crate::event::Pid;
use serde::{Deserialize, Serialize};

/// The history of every app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Seconds that a point covers.
    pub point_seconds: u32,
    /// Seconds after which a point is forgotten.
    pub kept_seconds: u32,
    /// Upper limits of [`Point::durations`].
    pub limits_seconds: Vec<f64>,
    pub apps: Vec<AppHistory>,
}

/// That of one app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AppHistory {
    pub master_pid: Pid,
    /// The oldest first. A time without a point is one of which nothing is known.
    pub points: Vec<Point>,
}
