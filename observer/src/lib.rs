//! gunicorn-observer: eBPF monitoring for Gunicorn.
//!
//! ```text
//! kernel ─ring─> ingest ─decode─> Event ┐
//! gunicorn, probe ──────────────> Fact  ┴─> Input ─> observer_model::State ─> views ─> http, top
//!                                            │                            └─> Effect ─> trace, log
//!                                            └─tee─> record ─> file ─> replay ─> Input
//! ```
//!
//! The rooms, from the top down; each uses only those below it:
//!
//! - [`daemon`]: the one place that knows every task; [`commands`]: commands that are no daemon
//! - [`engine`]: owns the state; [`watcher`]: follows processes and attaches
//! - [`top`], [`trace`], [`http`]: the outputs; [`app_metrics`]: metrics that applications keep
//!   themselves; [`metrics`]: the observer's; [`query`]: asks the engine for views
//! - [`config`]: flag, variable, file or default; [`cli`]: the command line; [`options`]: values
//! - [`ingest`]: bytes of the ring buffer to events; the record file, written and read
//! - [`probe`]: what the kernel offers; loading and attaching the programs
//! - [`gunicorn`]: masters and workers; [`cpython`]: interpreters; [`process`]: any process
//! - [`kubernetes`]: names of pods
//! - [`privilege`]: drops capabilities, refuses system calls
//! - [`terminal`], [`clock`], `trim_memory`, `yaml`, `pem`: helpers

pub mod app_metrics;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod cpython;
pub mod daemon;
pub mod engine;
pub mod gunicorn;
pub mod http;
pub mod ingest;
pub mod kubernetes;
pub mod metrics;
pub mod options;
mod pem;
pub mod privilege;
pub mod probe;
pub mod process;
pub mod query;
pub mod terminal;
pub mod top;
pub mod trace;
mod trim_memory;
pub mod watcher;
mod yaml;
