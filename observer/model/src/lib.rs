//! The pure model of gunicorn-observer: events and facts in, counters, findings and views out.
//!
//! The model does no I/O, reads no clock and spawns nothing: time is a parameter. A
//! recording therefore replays to the views that were served while it was made.
//!
//! ```text
//!              Fork, Request                  Fact::Master of the parent, Fact::Worker
//!  (unknown) ───────────────> provisional ─────────────────────────────────────────┐
//!      │                          │ Exec, NotGunicorn, unclaimed for long          v
//!      │ Fork of a known master   v                               Exit        live worker
//!      └──────────────────────> gone <── keep_ended ── exited <─────────────────┘  ^
//!                     └────────────────────────────────────────────────────────────┘
//! ```
//!
//! The rooms, from the top down; each uses only those below it:
//!
//! - [`views`]: what outputs read: metrics, and the live view of API, dashboard and `top`
//! - [`State`]: takes an [`input::Input`], answers with [`Effect`]s; masters and workers
//! - [`recent`]: history, top requests and rates; [`findings`]: rules about all of it
//! - [`counters`]: counters and histograms of apps and workers
//! - [`lifecycle`]: how far a worker is, why it exited, and the event that reports it
//! - [`errors`]: which exception failed a request
//! - [`routes`]: paths to routes
//! - [`fact`]: what userspace found; [`event`]: what the kernel reported; [`settings`]: what the
//!   operator chose; [`untrusted`]: text of observed processes; [`duration`], [`wall_clock`]: units of
//!   time

#![deny(clippy::disallowed_methods)]

pub mod counters;
pub mod duration;
pub mod effect;
pub mod errors;
pub mod event;
pub mod fact;
pub mod findings;
pub mod input;
pub mod lifecycle;
pub mod recent;
pub mod routes;
pub mod settings;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod untrusted;
pub mod views;
pub mod wall_clock;

pub use effect::Effect;
pub use settings::Settings;
pub use state::State;
pub use untrusted::Untrusted;
