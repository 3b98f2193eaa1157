//! Any process of this host: its memory, files, maps and threads.
//!
//! - [`procfs`]: what `/proc` says; [`fds`]: open files; [`tasks`]: threads; [`container`]: cgroup
//! - [`memory`]: another process's memory, page by page
//! - [`maps`]: mapped files, and how to open exactly those; `overlay`: the file below overlayfs;
//!   [`root`]: files of the process's own root
//! - [`elf`]: symbols, addresses and method tables of a file; [`stapsdt`]: its static probes;
//!   [`insn`]: where in a function a probe is cheap
//! - [`thread_pointer`]: from `pthread_self()` to the thread pointer
//! - [`sock_diag`]: listening sockets of a network namespace

pub mod container;
pub mod elf;
pub mod fds;
pub mod insn;
pub mod maps;
pub mod memory;
mod overlay;
pub mod procfs;
pub mod root;
pub mod sock_diag;
pub mod stapsdt;
pub mod tasks;
pub mod thread_pointer;
