//! Any Gunicorn: masters, workers, and the requests they handle.
//!
//! - [`tree`]: finds masters with their workers; [`found`]: what it returns; [`cmdline`]: whether a
//!   command line looks like Python or Gunicorn: a hint only
//! - [`arbiter`]: the master on the main thread's stack; [`worker`]: a worker object;
//!   [`handling`]: how a worker class handles requests
//! - [`gauges`]: what workers use and how far they are; [`listeners`]: the sockets masters listen on
//! - [`stacks`]: the Python stack of each thread; [`serving`]: the request a frame serves;
//!   [`thread_dump`]: both, as text or JSON

pub mod arbiter;
pub mod cmdline;
pub mod found;
pub mod gauges;
pub mod handling;
pub mod listeners;
pub mod serving;
pub mod stacks;
pub mod thread_dump;
pub mod tree;
pub mod worker;
