//! The HTTP server: metrics, API and dashboard. Nothing is writable.
//!
//! - [`server`]: the endpoints; [`connections`]: how many clients; [`web_config`]: TLS and
//!   authentication
//! - [`event_stream`]: a view each second; [`dashboard`]: the static files

pub mod connections;
pub mod dashboard;
pub mod event_stream;
pub mod server;
pub mod web_config;
