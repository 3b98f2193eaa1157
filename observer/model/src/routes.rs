//! From the path of a request to its route.

pub mod glob;
pub mod normalize;
pub mod registry;
