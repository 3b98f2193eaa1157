//! Metrics: one table of families, and the text formats it is served in.
//!
//! - [`family`]: what a family is, and the table of all of them; its rows are in `families`
//! - [`subjects`]: workers, masters and the observer, which series are about
//! - [`series`]: the series of a family, sorted; [`labels`]: their labels
//! - [`exposition`]: all of it as text, by [`writer`]
//!
//! To add a metric, add its row to a file of `families/`, and describe it in docs/METRICS.md.
//!
//! Why not the `prometheus` crate: its registry holds metrics that a program counts itself. Here a
//! view of the model is exported as it is, so each value would be copied into the crate's
//! protobuf types first, and the label text of a worker made again for each of its lines. These
//! copies took four fifths of the time of a scrape.

pub mod exposition;
mod families;
pub mod family;
pub mod labels;
pub mod series;
pub mod subjects;
pub mod writer;

#[cfg(test)]
mod exported;
#[cfg(test)]
mod families_tests;
#[cfg(test)]
mod random_tests;
