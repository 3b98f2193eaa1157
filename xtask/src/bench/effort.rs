//! How long things are measured.

/// How long to measure
#[derive(clap::Args)]
pub struct Options {
    /// Measure a little only, to see that it works: nothing is written
    #[arg(long)]
    quick: bool,
    /// How often the observer comes and goes beside the same Gunicorns
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// How often Gunicorns with other exporters are started
    #[arg(long, default_value_t = 2)]
    restarts: usize,
}

/// Of everything that is measured live.
pub struct Effort {
    pub pairs: usize,
    pub restarts: usize,
    /// Of windows, after each of these starts.
    pub rounds: usize,
    /// How long a window is, about.
    pub window_seconds: f64,
    /// Requests of each application whose hits are counted.
    pub counted_requests: u32,
    /// How often empty programs, the observer and none take turns.
    pub floor_pairs: usize,
    /// How often the observer comes and goes beside processes that are no Gunicorn.
    pub bystander_pairs: usize,
    /// Workers of the daemon's hosts.
    pub workers: &'static [usize],
    /// How long the daemon is watched.
    pub daemon_seconds: u64,
    /// Requests of each worker class that are held against an access log.
    pub logged_requests: usize,
}

impl Options {
    /// Whether what comes of it is worth to be kept.
    pub fn is_kept(&self) -> bool {
        !self.quick
    }

    pub fn effort(&self) -> Effort {
        if self.quick {
            return Effort {
                pairs: 3,
                restarts: 1,
                rounds: 2,
                window_seconds: 0.05,
                counted_requests: 300,
                floor_pairs: 3,
                bystander_pairs: 3,
                workers: &[10, 100],
                daemon_seconds: 2,
                logged_requests: 2_000,
            };
        }
        Effort {
            pairs: self.pairs,
            restarts: self.restarts,
            rounds: 5,
            window_seconds: 0.1,
            counted_requests: 2_000,
            floor_pairs: self.pairs.div_ceil(4),
            bystander_pairs: self.pairs.div_ceil(4),
            workers: &[10, 100, 1_000],
            daemon_seconds: 10,
            // 200,000 of three classes.
            logged_requests: 66_667,
        }
    }
}
