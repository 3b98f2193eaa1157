//! Metrics that applications keep themselves, with `prometheus_client` in multiprocess mode.
//!
//! Each process of such an application writes files of mapped memory to a folder
//! (`PROMETHEUS_MULTIPROC_DIR`). They are read from outside and merged as `prometheus_client` merges
//! them.
//!
//! ```text
//! folder ─ names and bytes ─> decode ─ entries ─> merge ─ families of an app ─> exposition ─> text
//! ```
//!
//! - [`service`]: answers clients, one at a time; [`reader`]: reads the folders of all masters
//! - [`folder`]: finds and opens a folder, and its files
//! - [`exposition`]: families of all apps as text; [`merge`]: the values of one app
//! - [`decode`]: bytes of a file; [`file_name`] and [`key`]: what its name and keys say
//! - [`error`]: what could not be read
//!
//! The applications are untrusted: each length, number and name has a limit.

pub mod decode;
pub mod error;
pub mod exposition;
pub mod file_name;
pub mod folder;
pub mod key;
pub mod merge;
pub mod reader;
pub mod service;

#[cfg(test)]
mod recorded_tests;
