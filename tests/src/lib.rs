//! Guards shared by the privileged tests and the demo. Each starts something real, waits for
//! conditions, and stops what it started when dropped.
//!
//! What is observed:
//! - [`gunicorn`]: a master and its workers; [`access_log`]: its log; [`boot`]: failures to boot;
//!   [`dirty_pool`]: one with a dirty pool
//! - [`venv`]: the Python environments of `cargo xtask setup`; [`python`]: the programs that run Gunicorn
//! - [`matrix`]: every interpreter with every Gunicorn and worker class
//! - [`errors`]: every way a request fails under every framework
//! - [`container`], [`cgroup`], [`interpreter`]: Gunicorns in containers, in control groups, and by
//!   copies of interpreters; [`nginx`]: a proxy in front
//! - [`source`]: lines of the applications
//!
//! What observes:
//! - [`observer`]: the program under test, with each [`backend`]; [`metrics`]: its exposition; [`facts`]: its records
//! - [`tracer`]: `trace`; [`tmux`]: a terminal for `top`; [`terminal_page`]: a terminal's screen as HTML
//! - [`browser`]: the dashboard; [`prometheus`]: a server that scrapes and evaluates rules
//! - [`chart`], [`pod`]: the Helm chart, and the image run as the chart says
//! - [`distribution`], [`root`]: the packages, and a root to install them in
//! - [`mod@unit`], [`service`], [`strace`]: the systemd unit, the observer under its limits, its system calls
//! - [`shipped`]: rules and dashboards of `deploy`
//!
//! Load and comparison:
//! - [`client`]: HTTP/1.1 with every byte in hand, also over [`tls`]; [`load`]: many requests at once;
//!   [`flood`]: more than any application serves; [`operated`]: load and trouble for an operator
//! - [`compare`]: the observer's counts and Gunicorn's log; [`case`]: one request and its record;
//!   [`phases`]: where time went; [`worker_exits`]: exit reasons; [`families`]: metric families
//! - [`recorded`]: the system calls of a worker on its connections, in order
//! - [`smoke`]: every feature under any kernel, in a minute
//! - [`kernel`]: loaded programs and maps; [`process`], [`wait`], [`skip`], [`extent`]: small parts
#![forbid(unsafe_code)]

pub mod access_log;
pub mod api_server;
pub mod backend;
pub mod boot;
pub mod browser;
pub mod case;
pub mod cgroup;
pub mod chart;
pub mod client;
pub mod compare;
pub mod container;
pub mod dirty_pool;
pub mod distribution;
pub mod errors;
pub mod extent;
pub mod facts;
pub mod families;
pub mod flood;
pub mod gunicorn;
pub mod interpreter;
pub mod kernel;
pub mod load;
pub mod matrix;
pub mod metrics;
pub mod nginx;
pub mod observer;
pub mod operated;
pub mod phases;
pub mod pod;
pub mod process;
pub mod prometheus;
pub mod python;
pub mod recorded;
pub mod response;
pub mod root;
pub mod service;
pub mod shipped;
pub mod skip;
pub mod smoke;
pub mod source;
pub mod strace;
pub mod terminal_page;
pub mod tls;
pub mod tmux;
pub mod tracer;
pub mod unit;
pub mod venv;
pub mod wait;
pub mod worker_exits;
