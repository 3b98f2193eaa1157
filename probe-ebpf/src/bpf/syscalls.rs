//! The system calls of workers: for kernels whose sockets do not report, for Unix sockets, and for
//! processes whose Python is not read.

mod accept;
pub mod call;
mod close;
mod connect;
mod read;
mod write;
