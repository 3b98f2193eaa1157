//! Rates of a worker over the last five to ten seconds.

use crate::recent::history::BIN_NS;

/// Counts of a worker of three samples: the latest, and two of up to two bins ago.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    before: Option<Counts>,
    middle: Option<Counts>,
    now: Option<Counts>,
}

/// Counts since the worker started.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub time_ns: u64,
    pub requests: u64,
    pub busy_ns: u64,
}

impl Rate {
    /// Takes a sample.
    pub fn sample(&mut self, now: Counts) {
        self.now = Some(now);
        let is_due = |of: &Counts| now.time_ns.saturating_sub(of.time_ns) >= BIN_NS;
        match &self.middle {
            None => (self.before, self.middle) = (Some(now), Some(now)),
            Some(middle) if is_due(middle) => {
                (self.before, self.middle) = (self.middle, Some(now));
            }
            Some(_) => {}
        }
    }

    /// Requests per second and the busy share of the time; `None` before the second sample.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
    pub fn lately(&self) -> Option<(f64, f64)> {
        let (before, now) = (self.before?, self.now?);
        let passed_ns = now
            .time_ns
            .checked_sub(before.time_ns)
            .filter(|&ns| ns > 0)? as f64;
        let requests = now.requests.saturating_sub(before.requests) as f64;
        let busy_ns = now.busy_ns.saturating_sub(before.busy_ns) as f64;
        Some((requests * 1e9 / passed_ns, (busy_ns / passed_ns).min(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_cover_the_last_five_to_ten_seconds() {
        let mut rate = Rate::default();
        let second = 1_000_000_000;
        assert!(rate.lately().is_none());
        for at in 0..60 {
            // Ten requests a second for half a minute, then none.
            rate.sample(Counts {
                time_ns: (100 + at) * second,
                requests: 10 * at.min(30),
                busy_ns: at * second / 4,
            });
            let (requests, busy) = rate.lately().unwrap_or((10.0, 0.25));
            assert!((busy - 0.25).abs() < 1e-9);
            match at {
                1..=30 => assert!((requests - 10.0).abs() < 1e-9, "{at}: {requests}"),
                41.. => assert!(requests == 0.0, "{at}: {requests}"),
                _ => {}
            }
        }
    }
}
