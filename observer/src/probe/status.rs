//! What is loaded, absent and attached, shared between the watcher and the statistics.

use super::absent::Refusal;
use super::features::{Feature, Hook, Program, PythonHook};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why a feature is absent that is loaded after readiness.
const LOADING: &str = "still loading";

/// Kept by [`super::programs::Programs`].
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// Why each feature is absent, or [`LOADING`]; empty if it is available, or loaded when it is
    /// needed.
    pub features: BTreeMap<&'static str, String>,
    /// Every loaded program.
    pub programs: Vec<Loaded>,
    /// Places of each function of Python.
    python: BTreeMap<PythonHook, u32>,
    /// Names of the attached features of the whole host.
    host: BTreeSet<&'static str>,
}

/// A loaded program.
#[derive(Debug)]
pub(super) struct Loaded {
    pub name: &'static str,
    pub feature: &'static Feature,
    pub row: &'static Program,
    pub fd: OwnedFd,
}

impl Status {
    /// The status of these features, none of them loaded.
    pub(super) fn new(features: &[&'static Feature]) -> Self {
        let features = features.iter();
        let status = Self::default();
        status.read().features = features.map(|it| (it.name, String::new())).collect();
        status
    }

    /// Records whether a feature is still to be loaded.
    pub(super) fn set_loading(&self, feature: &Feature, is_loading: bool) {
        let why = if is_loading { LOADING } else { "" };
        self.read().features.insert(feature.name, why.to_owned());
    }

    /// Records a loaded program.
    pub(super) fn add_program(&self, program: Loaded) {
        self.read().programs.push(program);
    }

    /// Records that a feature is absent.
    pub(super) fn set_absent(&self, feature: &Feature, refusal: &Refusal) {
        let mut inner = self.read();
        inner.features.insert(feature.name, refusal.why.clone());
        inner.programs.retain(|it| it.feature.name != feature.name);
    }

    /// Records every place that a function of Python is attached at.
    pub(super) fn set_python(&self, places: impl Iterator<Item = (PythonHook, u32)>) {
        let mut counts = BTreeMap::new();
        for (hook, places) in places {
            *counts.entry(hook).or_default() += places;
        }
        self.read().python = counts;
    }

    /// Records whether a feature of the whole host is attached.
    pub(super) fn set_host(&self, feature: &Feature, is_attached: bool) {
        let mut inner = self.read();
        if is_attached {
            inner.host.insert(feature.name);
        } else {
            inner.host.remove(feature.name);
        }
    }

    pub(super) fn read(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// How many times a program is attached.
    pub(super) fn attached(&self, program: &Loaded) -> u32 {
        match program.row.hook {
            Hook::Python(hook) => self.python.get(&hook).copied().unwrap_or(0),
            _ => self.host.contains(program.feature.name).into(),
        }
    }
}
