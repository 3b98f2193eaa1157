//! The system calls that a worker makes for a request.

use anyhow::Result;

use super::{empty::Empty, stand::Served};

/// Those that programs of the observer are on, and their numbers on this machine
/// (`asm/unistd_64.h`, `asm-generic/unistd.h`).
#[cfg(target_arch = "x86_64")]
const FOLLOWED: [(&str, u32); 5] = [
    ("accept4", 288),
    ("close", 3),
    ("recvfrom", 45),
    ("sendfile", 40),
    ("sendto", 44),
];
#[cfg(target_arch = "aarch64")]
const FOLLOWED: [(&str, u32); 5] = [
    ("accept4", 242),
    ("close", 57),
    ("recvfrom", 207),
    ("sendfile", 71),
    ("sendto", 206),
];

/// In a request.
pub struct Calls {
    pub all: f64,
    followed: Vec<(&'static str, f64)>,
}

impl Calls {
    /// Counts them over so many requests.
    pub fn of_a_request(served: &Served, empty: &Empty, requests: u32) -> Result<Self> {
        let mut counting = empty.count(served.worker)?;
        let before = counting.calls()?;
        served.window(requests)?;
        let after = counting.calls()?;
        let made = |number: &u32| {
            let of = |calls: &std::collections::BTreeMap<u32, u64>| {
                calls.get(number).copied().unwrap_or_default()
            };
            (of(&after) - of(&before)) as f64 / f64::from(requests)
        };
        Ok(Self {
            all: after.keys().map(made).sum(),
            followed: FOLLOWED
                .map(|(name, number)| (name, made(&number)))
                .to_vec(),
        })
    }

    /// How often a followed one is made; none is nothing.
    pub fn of(&self, name: &str) -> f64 {
        let followed = self.followed.iter().find(|(followed, _)| *followed == name);
        followed.map_or(0.0, |(_, calls)| *calls)
    }
}
