//! The closer look: what it covers, and who needs one.

use crate::event::{Pid, Request};
use crate::fact::{DeepCapture, DeepCaptureState};
use std::collections::BTreeMap;

/// What is known of closer deep_captures.
#[derive(Debug, Default)]
pub struct DeepCaptures {
    /// At whose workers one is taken, and since when.
    current: BTreeMap<Pid, u64>,
    /// What was told of each master, while it is of interest.
    pub told: BTreeMap<Pid, DeepCapture>,
    /// DeepCaptures that were begun.
    pub begun: u64,
    /// Failed requests that a look was taken at though their exception was known: of how many it
    /// would have said the same, and of how many not.
    pub agreed: u64,
    pub disagreed: u64,
}

impl DeepCaptures {
    /// One began or ended.
    pub fn tell(&mut self, look: &DeepCapture) {
        if look.state == DeepCaptureState::Looking {
            self.current.insert(look.pid, look.since_ns);
            self.begun += 1;
        } else {
            self.current.remove(&look.pid);
        }
        if look.state == DeepCaptureState::Over {
            self.told.remove(&look.pid);
        } else {
            self.told.insert(look.pid, look.clone());
        }
    }

    /// They have seen as much as they may: what ends from now on was not watched to its end.
    pub fn exhausted(&mut self) {
        self.current.clear();
    }

    /// Whether no exception of a request can have been missed.
    #[must_use]
    pub fn covers(&self, master: Pid, request: &Request) -> bool {
        let since_ns = self.current.get(&master);
        since_ns.is_some_and(|since_ns| request.entered_ns.is_some_and(|ns| ns >= *since_ns))
    }

    /// A failed request shows whether deep_captures can be relied on.
    pub fn check(&mut self, agrees: Option<bool>) {
        match agrees {
            Some(true) => self.agreed += 1,
            Some(false) => self.disagreed += 1,
            None => {}
        }
    }

    /// Whether one is running for the workers of this master.
    #[must_use]
    pub fn is_running(&self, master: Pid) -> bool {
        self.current.contains_key(&master)
    }

    /// A master has gone.
    pub fn forget(&mut self, master: Pid) {
        self.told.remove(&master);
        self.current.remove(&master);
    }
}
