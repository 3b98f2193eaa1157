//! How long to measure.

use super::stand::App;

/// How long to measure
#[derive(clap::Args)]
pub struct Options {
    /// Measure only a little, to see that it works; writes nothing
    #[arg(long)]
    quick: bool,
    /// Number of times that the observer attaches to and detaches from the same Gunicorns
    #[arg(long, default_value_t = 60)]
    pairs: usize,
    /// Number of starts of Gunicorns with other exporters
    #[arg(long, default_value_t = 2)]
    restarts: usize,
}

/// The effort of each live measurement.
pub struct Effort {
    pub apps: &'static [App],
    pub pairs: usize,
    pub restarts: usize,
    /// Windows after each start.
    pub rounds: usize,
    /// Approximate length of a window.
    pub window_seconds: f64,
    /// Requests of each application for counting probe hits.
    pub counted_requests: u32,
    /// Turns of empty programs and none.
    pub trap_rounds: usize,
    /// Requests of a turn, in which calls are timed.
    pub timed_requests: u32,
    /// Turns of the observer beside processes that are not Gunicorn.
    pub bystander_rounds: usize,
    /// Workers of the daemon's hosts.
    pub workers: &'static [usize],
    /// Time that the daemon is measured.
    pub daemon_seconds: u64,
    /// Requests of each worker class that are compared with an access log.
    pub logged_requests: usize,
}

impl Options {
    /// Whether to write the results.
    pub fn is_kept(&self) -> bool {
        !self.quick
    }

    pub fn effort(&self) -> Effort {
        if self.quick {
            return Effort {
                apps: &[App::Flask],
                pairs: 3,
                restarts: 1,
                rounds: 2,
                window_seconds: 0.05,
                counted_requests: 300,
                trap_rounds: 3,
                timed_requests: 500,
                bystander_rounds: 2,
                workers: &[10, 100],
                daemon_seconds: 2,
                logged_requests: 2_000,
            };
        }
        Effort {
            apps: &App::ALL,
            pairs: self.pairs,
            restarts: self.restarts,
            rounds: 5,
            window_seconds: 0.25,
            counted_requests: 2_000,
            trap_rounds: 10,
            timed_requests: 2_000,
            bystander_rounds: 10,
            workers: &[10, 100, 1_000],
            daemon_seconds: 10,
            // 200,000 of three classes.
            logged_requests: 66_667,
        }
    }
}
