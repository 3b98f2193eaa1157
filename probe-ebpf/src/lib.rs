//! What the kernel side and the userspace side share.
//!
//! - [`abi`]: records of the ring buffer, values of the maps, counters
//! - [`http`]: sniffing of request and response heads
//! - [`memory`]: reading another process, wherever the code runs
//! - [`python`]: where a CPython build keeps what we read
//! - [`gunicorn`]: which code objects are a request's entry and exit
#![no_std]
#![deny(unsafe_code)]

pub mod abi;
pub mod gunicorn;
pub mod http;
pub mod memory;
#[cfg(feature = "user")]
mod pod;
pub mod python;
