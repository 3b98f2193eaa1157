//! How many times each program is attached, shared between the watcher and the statistics.

use super::features::{Feature, Hook, Program, PythonHook, When};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Numbers of attachments, kept by [`super::programs::Programs`].
#[derive(Clone, Debug, Default)]
pub struct Attachments(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    python: BTreeMap<PythonHook, u32>,
    has_generic_io: bool,
    has_gil: bool,
}

impl Attachments {
    /// How many times a program of a feature is attached.
    #[must_use]
    pub fn of(&self, feature: &Feature, program: &Program) -> u32 {
        let counts = self.counts();
        match (feature.attached, program.hook) {
            (When::GenericIo, _) => counts.has_generic_io.into(),
            (When::Gil, _) => counts.has_gil.into(),
            (_, Hook::Python(hook)) => counts.python.get(&hook).copied().unwrap_or(0),
            _ => 1,
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

    /// Records whether the programs on generic I/O are attached.
    pub fn set_generic_io(&self, is_attached: bool) {
        self.counts().has_generic_io = is_attached;
    }

    /// Records whether the programs on GIL waits are attached.
    pub fn set_gil(&self, is_attached: bool) {
        self.counts().has_gil = is_attached;
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
