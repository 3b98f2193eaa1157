//! The closer look: what it covers, and who needs one.

use crate::event::{Pid, Request};
use crate::fact::{Look, LookState};
use std::collections::BTreeMap;

/// What is known of closer looks.
#[derive(Debug, Default)]
pub struct Looks {
    /// At whose workers one is taken, and since when.
    current: BTreeMap<Pid, u64>,
    /// What was told of each master, while it is of interest.
    pub told: BTreeMap<Pid, Look>,
    /// Looks that were begun.
    pub begun: u64,
    /// Failed requests that a look was taken at though their exception was known: of how many it
    /// would have said the same, and of how many not.
    pub agreed: u64,
    pub disagreed: u64,
    /// Masters with requests that failed for an unknown reason since this was last asked, and one
    /// of those requests.
    wanted: BTreeMap<Pid, String>,
}

impl Looks {
    /// One began or ended.
    pub fn tell(&mut self, look: &Look) {
        if look.state == LookState::Looking {
            self.current.insert(look.pid, look.since_ns);
            self.begun += 1;
        } else {
            self.current.remove(&look.pid);
        }
        if look.state == LookState::Over {
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

    /// A failed request shows whether looks can be relied on.
    pub fn check(&mut self, agrees: Option<bool>) {
        match agrees {
            Some(true) => self.agreed += 1,
            Some(false) => self.disagreed += 1,
            None => {}
        }
    }

    /// A request of this master failed, and it is not known why.
    pub fn want(&mut self, master: Pid, why: impl FnOnce() -> String) {
        if !self.current.contains_key(&master) {
            self.wanted.entry(master).or_insert_with(why);
        }
    }

    /// A master has gone.
    pub fn forget(&mut self, master: Pid) {
        self.told.remove(&master);
        self.wanted.remove(&master);
        self.current.remove(&master);
    }

    /// Who needs a look since this was last asked.
    pub fn take_wanted(&mut self) -> BTreeMap<Pid, String> {
        std::mem::take(&mut self.wanted)
    }
}
