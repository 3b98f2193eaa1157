//! Every interpreter with every Gunicorn and worker class: what of it runs at all, what the
//! observer must say of each, and one table of what it said.
//!
//! - [`product`]: the cells, as data; which of them spans all
//! - [`place`]: where set-up has put interpreters and packages
//! - [`cell`]: one of them, tried
//! - [`run`]: many of them, tried; [`table`]: what came of it

pub mod cell;
pub mod place;
pub mod product;
pub mod run;
pub mod table;
