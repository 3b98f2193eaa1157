//! Loads features in threads of their own, after the observer is ready.

use super::code::{Code, Loading};
use super::features::Feature;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder};

/// A feature, and the programs of it that a thread is to load.
pub(super) type Task = (&'static Feature, Vec<&'static str>);
/// A feature, and its loaded programs.
pub(super) type Done = (&'static Feature, Vec<Loading>);

/// The features that threads load.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Not loaded yet, in order.
    waiting: VecDeque<Task>,
    /// With the threads.
    loading: VecDeque<&'static Feature>,
    done: Option<Receiver<Done>>,
}

impl Late {
    /// Leaves a feature to the threads.
    pub(super) fn push(&mut self, task: Task) {
        self.waiting.push_back(task);
    }

    /// Takes back every feature, before the start of the threads.
    pub(super) fn take(&mut self) -> Vec<&'static Feature> {
        let waiting = self.waiting.drain(..);
        waiting.map(|(feature, _)| feature).collect()
    }

    /// Starts the threads, one for each processor. They end with the last feature, or with the process.
    pub(super) fn start(&mut self, code: &Arc<Code>) {
        let tasks = std::mem::take(&mut self.waiting);
        if tasks.is_empty() {
            return;
        }
        self.loading = tasks.iter().map(|(feature, _)| *feature).collect();
        let (sender, receiver) = sync_channel(tasks.len());
        let tasks = Arc::new(Mutex::new(tasks));
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        for _ in 0..processors.min(self.loading.len()) {
            let (tasks, code, sender) = (Arc::clone(&tasks), Arc::clone(code), sender.clone());
            let thread = Builder::new().name("load".to_owned()).spawn(move || {
                while let Some((feature, names)) = next_of(&tasks) {
                    let loadings = names.into_iter().map(|name| code.load(name)).collect();
                    if sender.send((feature, loadings)).is_err() {
                        return;
                    }
                }
            });
            // Without any thread, the caller loads them.
            if thread.is_err() {
                break;
            }
        }
        self.done = Some(receiver);
    }

    /// Whether a feature is not loaded yet.
    pub(super) fn has(&self, name: &str) -> bool {
        let waiting = self.waiting.iter().map(|(feature, _)| feature.name);
        let loading = self.loading.iter().map(|feature| feature.name);
        waiting.chain(loading).any(|it| it == name)
    }

    /// Whether features are loaded now.
    pub(super) fn is_loading(&self) -> bool {
        !self.loading.is_empty()
    }

    /// The next feature, if it is loaded by now.
    pub(super) fn next(&mut self) -> Option<Done> {
        let done = match &self.done {
            Some(done) => match done.try_recv() {
                Ok(done) => done,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => (*self.loading.front()?, Vec::new()),
            },
            None => (*self.loading.front()?, Vec::new()),
        };
        self.loading.retain(|feature| feature.name != done.0.name);
        Some(done)
    }

    /// Waits for the next feature of the threads. Before their start, the named one is taken from them:
    /// the caller loads it.
    pub(super) fn wait(&mut self, name: &str) -> Option<Done> {
        self.waiting.retain(|(feature, _)| feature.name != name);
        let feature = *self.loading.front()?;
        let done = self.done.as_ref().and_then(|done| done.recv().ok());
        let done = done.unwrap_or_else(|| (feature, Vec::new()));
        self.loading.retain(|feature| feature.name != done.0.name);
        Some(done)
    }
}

fn next_of(tasks: &Mutex<VecDeque<Task>>) -> Option<Task> {
    let tasks = tasks.lock();
    // A thread that panicked left the others where they are.
    tasks.unwrap_or_else(PoisonError::into_inner).pop_front()
}
