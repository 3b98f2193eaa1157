//! Any Gunicorn: masters, workers, and the requests they handle.
//!
//! - [`tree`]: finds masters with their workers; [`found`]: what it returns; [`cmdline`]: whether a
//!   command line looks like Python or Gunicorn: a hint only
//! - [`arbiter`]: the object of a master; [`worker`]: a worker object; [`heartbeat`]: its heartbeats;
//!   [`handling`]: how a worker class handles requests
//! - [`gauges`]: memory, CPU time and state of workers; [`listeners`]: sockets masters listen on
//! - [`stacks`]: the Python stack of each thread; [`awaits`]: what each task awaits; [`serving`]: the request a frame serves;
//!   [`thread_dump`]: both, as text or JSON
//! - [`version`]: supported versions

pub mod arbiter;
pub mod awaits;
pub mod cmdline;
pub mod found;
pub mod gauges;
pub mod handling;
pub mod heartbeat;
pub mod listeners;
pub mod serving;
pub mod stacks;
pub mod thread_dump;
pub mod tree;
pub mod version;
pub mod worker;
