//! Guards shared by the privileged tests and the demo: each starts something real, waits for
//! conditions, and ends what it started when dropped.
//!
//! - [`venv`]: the Python environments `cargo xtask setup` makes; [`python`]: what runs Gunicorn
//! - [`matrix`]: every interpreter with every Gunicorn and worker class, as one table
//! - [`gunicorn`]: a Gunicorn master and its workers; [`access_log`]: what it says it served;
//!   [`boot`]: how its workers fail to boot
//! - [`chart`]: the Helm chart, rendered and validated
//! - [`families`]: what is served when all probes tell
//! - [`pod`]: the image, run as the chart says
//! - [`container`], [`cgroup`]: what a Gunicorn can be shut into; [`interpreter`]: copies of one;
//!   [`nginx`]: what is in front of one
//! - [`operated`]: load and trouble for who asks about it; [`prometheus`]: what scrapes the observer,
//!   evaluates rules and is asked; [`shipped`]: rules and dashboards of `deploy`
//! - [`observer`]: the program under test; [`metrics`]: what it says; [`facts`]: request by request;
//!   [`tracer`]: its command `trace`; [`tmux`]: a terminal, and its command `top` on that;
//!   [`terminal_page`]: what is on a terminal, as HTML
//! - [`browser`]: a page as a person sees it
//! - [`client`]: HTTP/1.1 with every byte in hand; [`load`]: many requests at once; [`flood`]: more
//!   than any application serves
//! - [`compare`]: what the observer counted against what Gunicorn logged
//! - [`case`]: one request alone, and its record; [`phases`]: where the time of many went
//! - [`endings`]: which workers ended and why, wherever it is told; [`source`]: lines of the
//!   applications
//! - [`distribution`]: what users are given; [`root`]: where it is installed; [`unit`], [`service`],
//!   [`strace`]: the systemd unit, the observer with what that leaves it, and what it then does
//! - [`errors`]: every way a request fails under every framework, as one table
//! - [`smoke`]: what is seen under any kernel, in a minute
//! - [`kernel`]: what is loaded in the kernel; [`process`], [`wait`], [`skip`]: the small parts
#![forbid(unsafe_code)]

pub mod access_log;
pub mod api_server;
pub mod boot;
pub mod browser;
pub mod case;
pub mod cgroup;
pub mod chart;
pub mod client;
pub mod compare;
pub mod container;
pub mod distribution;
pub mod endings;
pub mod errors;
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
pub mod response;
pub mod root;
pub mod service;
pub mod shipped;
pub mod skip;
pub mod smoke;
pub mod source;
pub mod strace;
pub mod terminal_page;
pub mod tmux;
pub mod tracer;
pub mod unit;
pub mod venv;
pub mod wait;
