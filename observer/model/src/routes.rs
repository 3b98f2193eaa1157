//! Routes: paths of requests, reduced to few enough names for a label.

pub mod glob;
pub mod normalize;
pub mod registry;
pub mod table;
pub mod tree;
