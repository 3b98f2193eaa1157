//! From bytes to the model's input: the kernel's records and the record file.
//!
//! - [`ring`]: the ring buffer as the kernel fills it
//! - [`decode`]: one record of the ring buffer to an event; [`mod@line`]: its request line;
//!   [`names`]: its classes and frames
//! - [`batch`]: records to the model, requests many at a time
//! - [`record`]: the stream into a file, [`record_file`] for a daemon; [`replay`]: the file back into
//!   the same stream

pub mod batch;
pub mod decode;
pub mod line;
pub mod names;
pub mod record;
pub mod record_file;
pub mod replay;
pub mod ring;
mod stack;

#[cfg(test)]
pub mod test_records;
