//! The outputs: each reads the snapshot or finished requests, none knows the state behind them.
//!
//! - [`family`]: metric families without double series; `names`: their common labels;
//!   [`prometheus`]: which there are; [`openmetrics`]: their other text format
//! - [`http`]: what is served; [`web`]: to whom; [`connections`]: to how many; [`source`]: where it
//!   is from; [`feed`]: a view each second;
//!   [`dashboard`]: the page
//! - [`lines`]: each finished request, to standard output

pub mod connections;
pub mod dashboard;
mod families;
mod families_master;
mod families_now;
mod families_observer;
pub mod family;
pub mod feed;
pub mod http;
pub mod lines;
mod names;
pub mod openmetrics;
pub mod prometheus;
pub mod source;
pub mod web;
