//! Interpreters: which one a process runs, where its functions and structures
//! are, and what its memory says about Gunicorn.
//!
//! - [`memory`]: another process's memory, page by page
//! - [`maps`]: which files it has mapped, and how to open exactly those; `overlay`: the file below overlayfs
//! - [`elf`]: symbols, addresses and method tables of such a file
//! - [`version`]: which interpreter a file is
//! - `collector`: where its garbage collector is; `stapsdt`: by the probes it was built with
//! - [`gil`]: where its threads wait for each other
//! - [`insn`]: where in a function a probe is cheap
//! - [`threads`]: its threads and their frames; [`slot`]: where each keeps its state, from its
//!   [`thread_pointer`]
//! - [`files`]: what was found out about a file, once for all processes
//! - [`lines`]: which line of its file an instruction is of
//! - [`stack`]: what each thread does: the [`position`] of each of its frames and the request it
//!   is [`serving`]; [`tasks`]: which of the kernel's threads it is
//! - [`error`]: why it is not known
//! - [`target`]: all of the above for one process: [`target::Interpreter`]
//! - [`object`]: strings, numbers, tuples and lists; [`attributes`]: dictionaries and attributes
//! - [`sys`]: the module `sys`
//! - [`arbiter`]: the Gunicorn master on the main thread's stack; [`handling`]: how its workers
//!   handle requests; [`worker`]: what one of them is

pub mod arbiter;
pub mod attributes;
mod collector;
pub mod elf;
pub mod error;
pub mod files;
pub mod gil;
pub mod handling;
pub mod insn;
pub mod lines;
pub mod maps;
pub mod memory;
pub mod object;
mod overlay;
pub mod position;
pub mod serving;
pub mod slot;
pub mod stack;
mod stapsdt;
pub mod sys;
pub mod target;
pub mod tasks;
pub mod thread_pointer;
pub mod threads;
pub mod version;
pub mod worker;
