//! What is known of masters, workers and requests: a pure function of the input.
//!
//! No I/O, no clock, no tasks: time is a parameter. So a record replays to the
//! same view that was served when it was made.
//!
//! ```text
//!              Fork, Request                  Fact::Master of the parent, Fact::Worker
//!  (unknown) ───────────────> provisional ─────────────────────────────────────────┐
//!      │                          │ Exec, NotGunicorn, unclaimed for long          v
//!      │ Fork of a known master   v                               Exit        live worker
//!      └──────────────────────> gone <── keep_ended ── ended <──────────────────┘  ^
//!                     └────────────────────────────────────────────────────────────┘
//! ```
//!
//! - [`State`]: takes the input; [`app`], [`worker`]: who; [`ledger`], [`tally`],
//!   [`histogram`]: how much; [`route`], [`routes`], [`glob`]: on which route
//! - [`exceptions`]: what was raised while a request is served; [`cause`]: which of it failed the
//!   request; [`names`]: how that is called; [`finished`]: a request with all that is known of it
//! - [`busy`]: how long a worker had something to do; [`life`]: how far it is; [`ending`]: why it
//!   ended; [`happened`]: that, as an event; [`finding`]: what an operator should know of all this
//! - [`observer`]: the observer about itself; [`view`]: the snapshot of it all

#![deny(clippy::disallowed_methods)]

pub mod app;
pub mod busy;
pub mod cause;
pub mod ending;
pub mod exceptions;
mod facts;
pub mod finding;
pub mod finished;
pub mod glob;
pub mod happened;
pub mod histogram;
pub mod history;
pub mod ledger;
pub mod life;
mod look;
pub mod names;
mod news;
pub mod observer;
mod overview;
pub mod rate;
pub mod recent;
pub mod route;
pub mod routes;
pub mod settings;
mod skipped;
mod slots;
mod state;
pub mod tally;
mod view;
mod watch;
pub mod worker;

pub use settings::Settings;
pub use state::State;

#[cfg(test)]
mod app_tests;
#[cfg(test)]
mod errors_tests;
#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod overview_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
