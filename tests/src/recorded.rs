//! The system calls of a real worker on its connections, in order, with the marks of its requests: what
//! the state machine of the eBPF programs is tested with.

mod calls;
pub mod run;
mod talks;
