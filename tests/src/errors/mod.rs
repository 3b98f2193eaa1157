//! Every way a request fails under every framework: what Python did, what the observer says of
//! it, and one table of both.
//!
//! - [`framework`]: the shops in `tests/apps/errors`, and the cells they are run in
//! - [`case`]: the requests, and what becomes of each, as data
//! - [`bad`]: requests that are none
//! - [`told`]: what the observer tells of a request's end
//! - [`run`]: all of it, tried; [`table`]: what came of it

pub mod bad;
pub mod case;
pub mod framework;
pub mod run;
pub mod table;
pub mod told;
