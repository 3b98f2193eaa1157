//! The HTTP server: metrics, API and dashboard, all read-only.
//!
//! - [`server`]: the endpoints; [`connections`]: limits on clients; [`web_config`]: TLS and
//!   authentication
//! - [`event_stream`]: a view each second; [`dashboard`]: the static files

pub mod connections;
pub mod dashboard;
pub mod event_stream;
pub mod server;
pub mod web_config;

/// Runs `work` in another thread: what takes some milliseconds for a large fleet must not hold up the
/// engine. `None` if it panicked.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
