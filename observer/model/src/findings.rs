//! Findings: what an operator should know without reading numbers.

pub mod finding;
pub mod past;
pub mod rules;
