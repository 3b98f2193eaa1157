//! Any CPython: which one a process runs, and its objects, threads and frames.
//!
//! - [`target`]: the interpreter of a process: [`target::Interpreter`]; [`files`]: what was found in
//!   a file, once for all processes; [`version`]: which interpreter a file is; [`error`]: why it is
//!   not known
//! - [`threads`]: threads and their frames; [`slot`]: where each thread keeps its state
//! - [`object`]: strings, numbers, tuples and lists; [`attributes`]: dictionaries and attributes;
//!   [`sys`]: the module `sys`
//! - [`position`]: where in the source a frame is; [`lines`]: the line of an instruction
//! - `gc`: where a garbage collection begins and ends; [`gil`]: where threads wait for the GIL

pub mod attributes;
pub mod error;
pub mod files;
mod gc;
pub mod gil;
pub mod lines;
pub mod object;
pub mod position;
pub mod slot;
pub mod sys;
pub mod target;
pub mod threads;
pub mod version;
