//! Every way a request fails under every framework: what Python did, what the observer says of
//! it, and one table of both.
//!
//! - [`framework`]: the shops in `tests/apps/errors`, and the cells they are run in
//! - [`case`]: the requests, and what becomes of each, as data
//! - [`bad`]: requests that are none
//! - [`error_counts`]: the observer's counts of errors of a path
//! - [`run`]: all of it, tried; [`table`]: what came of it

pub mod bad;
pub mod case;
pub mod error_counts;
pub mod framework;
pub mod run;
pub mod table;
