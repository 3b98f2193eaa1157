//! Every way a request fails under every framework: what Python did, what the observer counted, and a
//! table of both.
//!
//! - [`framework`]: the applications in `tests/apps/errors`, and the combinations they run in
//! - [`case`]: the requests and their outcomes, as data
//! - [`malformed`]: malformed requests
//! - [`error_counts`]: the observer's counts of errors of a path
//! - [`run`]: tries all of it; [`table`]: the results

pub mod case;
pub mod error_counts;
pub mod framework;
pub mod malformed;
pub mod run;
pub mod table;
