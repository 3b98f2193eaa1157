//! gunicorn-observer: watches Gunicorn from outside.
//!
//! ```text
//! kernel ─ring─> ingest ─decode─> Event ┐
//! discover, probe ──────────────> Fact  ┴─> Input ─> model::State ─> Snapshot ─> sink
//!                                            └─tee─> record ─> file ─> replay ─> Input
//! ```
//!
//! - [`event`]: what the kernel told; [`fact`]: what userspace found; both are an [`input`]
//! - [`ingest`]: bytes of the ring buffer to events; the record file, written and read
//! - [`probe`]: what the kernel and the host offer; loading and attaching the programs
//! - [`discover`]: processes, masters, workers
//! - [`root`]: files of their own roots
//! - [`kubernetes`]: pods, as the API server has them
//! - [`python`]: interpreters: where their functions and structures are
//! - [`model`]: the pure state; [`snapshot`]: the view every output reads
//! - [`sink`]: the outputs; [`tui`]: the one on a terminal
//! - [`yaml`], [`pem`]: files that the operator names
//! - [`cli`], [`config`]: what the operator asked for; [`commands`]: those that are no daemon
//! - [`watcher`]: follows processes and attaches; [`engine`]: owns the state
//! - [`privilege`]: what is given up once it is not needed
//! - [`app`]: the one file that knows every task

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod discover;
pub mod engine;
pub mod event;
pub mod fact;
mod heap;
pub mod ingest;
pub mod input;
pub mod kubernetes;
pub mod model;
mod pem;
pub mod privilege;
pub mod probe;
pub mod python;
pub mod root;
pub mod shutdown;
pub mod sink;
pub mod snapshot;
pub mod tui;
pub mod watcher;
mod yaml;
