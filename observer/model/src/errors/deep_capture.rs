//! Deep captures: which requests they cover.

use crate::event::{Pid, Request};
use crate::fact::{DeepCapture, DeepCaptureState};
use std::collections::BTreeMap;

/// The deep captures of all masters.
#[derive(Debug, Default)]
pub struct DeepCaptures {
    /// Masters whose workers are captured now, and since when.
    current: BTreeMap<Pid, u64>,
    /// The latest state by master, until it is over.
    pub latest: BTreeMap<Pid, DeepCapture>,
    /// Deep captures that began.
    pub begun: u64,
    /// Failed requests with a known exception, by whether the deep capture alone gives the same one.
    pub agreed: u64,
    pub disagreed: u64,
}

impl DeepCaptures {
    /// A deep capture began, ended or failed.
    pub fn changed(&mut self, capture: &DeepCapture) {
        if capture.state == DeepCaptureState::Capturing {
            self.current.insert(capture.pid, capture.since_ns);
            self.begun += 1;
        } else {
            self.current.remove(&capture.pid);
        }
        if capture.state == DeepCaptureState::Over {
            self.latest.remove(&capture.pid);
        } else {
            self.latest.insert(capture.pid, capture.clone());
        }
    }

    /// The running captures reached their limit of events: they do not cover requests that finish
    /// from now on.
    pub fn exhausted(&mut self) {
        self.current.clear();
    }

    /// Whether a capture covers the whole request, so that no exception of it is missing.
    #[must_use]
    pub fn covers(&self, master: Pid, request: &Request) -> bool {
        let since_ns = self.current.get(&master);
        since_ns.is_some_and(|since_ns| request.entered_ns.is_some_and(|ns| ns >= *since_ns))
    }

    /// Counts whether a deep capture agrees with the known exception of a failed request.
    pub fn check(&mut self, agrees: Option<bool>) {
        match agrees {
            Some(true) => self.agreed += 1,
            Some(false) => self.disagreed += 1,
            None => {}
        }
    }

    /// Whether a deep capture runs for the workers of this master.
    #[must_use]
    pub fn is_running(&self, master: Pid) -> bool {
        self.current.contains_key(&master)
    }

    /// A master exited.
    pub fn forget(&mut self, master: Pid) {
        self.latest.remove(&master);
        self.current.remove(&master);
    }
}
