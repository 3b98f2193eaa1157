//! How many times each program is attached, shared between the watcher and the statistics.

use super::features::{Feature, Hook, Program, PythonHook};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Numbers of attachments, kept by [`super::programs::Programs`].
#[derive(Clone, Debug, Default)]
pub struct Attachments(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    python: BTreeMap<PythonHook, u32>,
    /// Names of the attached features of the whole host.
    host: BTreeSet<&'static str>,
}

impl Attachments {
    /// How many times a program of a feature is attached.
    #[must_use]
    pub fn of(&self, feature: &Feature, program: &Program) -> u32 {
        let counts = self.counts();
        match program.hook {
            Hook::Python(hook) => counts.python.get(&hook).copied().unwrap_or(0),
            _ => counts.host.contains(feature.name).into(),
        }
    }

    /// Records every attachment to a function of Python.
    pub fn set_python(&self, hooks: impl Iterator<Item = PythonHook>) {
        let mut counts = BTreeMap::new();
        for hook in hooks {
            *counts.entry(hook).or_default() += 1;
        }
        self.counts().python = counts;
    }

    /// Records whether a feature of the whole host is attached.
    pub fn set_host(&self, feature: &Feature, is_attached: bool) {
        let mut counts = self.counts();
        if is_attached {
            counts.host.insert(feature.name);
        } else {
            counts.host.remove(feature.name);
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
