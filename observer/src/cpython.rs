//! Any CPython: its version, objects, threads and frames.
//!
//! - [`target`]: the interpreter of a process: [`target::Interpreter`]; [`files`]: what a file holds,
//!   read once for all processes; [`version`]: supported versions, and which interpreter a file is;
//!   [`error`]: why an interpreter cannot be read
//! - [`threads`]: threads; [`slot`]: where each thread keeps its state
//! - [`object`]: strings, numbers, tuples and lists; [`attributes`]: dictionaries and attributes;
//!   [`sys`]: the module `sys`
//! - [`signal_handlers`]: the functions that handle signals
//! - [`asyncio`]: tasks; [`awaits`]: the frames of a suspended coroutine; [`locals`]: local variables
//! - [`position`]: where in the source a frame is; [`lines`]: the line of an instruction
//! - `gc`: where a garbage collection begins and ends; [`gil`]: where threads wait for the GIL

pub mod asyncio;
pub mod attributes;
pub mod awaits;
pub mod error;
pub mod files;
mod gc;
pub mod gil;
pub mod lines;
pub mod locals;
pub mod object;
pub mod position;
pub mod signal_handlers;
pub mod slot;
pub mod sys;
pub mod target;
#[cfg(test)]
pub(crate) mod test_heap;
#[cfg(test)]
pub(crate) mod test_tasks;
pub mod threads;
pub mod version;
