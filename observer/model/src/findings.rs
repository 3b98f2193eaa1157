//! Findings: problems that an operator should know about without reading numbers.

pub mod finding;
pub mod past;
pub mod rules;
