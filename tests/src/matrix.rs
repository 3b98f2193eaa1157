//! Every interpreter with every Gunicorn and worker class: the cells that run, what the observer must
//! report of each, and a table of its reports.
//!
//! - [`product`]: the cells, as data, and parts of them that cover all
//! - [`place`]: the folders of interpreters and packages
//! - [`cell`]: tries one cell
//! - [`run`]: tries many; [`table`]: the results

pub mod cell;
pub mod place;
pub mod product;
pub mod run;
pub mod table;
