//! Every transition of the machine.

extern crate std;

mod blind;
mod connections;
mod endings;
mod failures;
mod properties;
mod recorded;
mod requests;
mod streams;
mod task;
mod wire;
mod worker;
