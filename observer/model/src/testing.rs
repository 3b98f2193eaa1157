//! Helpers for tests.

pub mod scenarios;
