//! A task or a thread whose end stops the daemon.

use super::stop::Stop;
use anyhow::{Context as _, Result, anyhow};
use std::convert::Infallible;
use std::future::Future;
use std::thread;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A task of the runtime.
pub(super) struct Task {
    name: &'static str,
    handle: JoinHandle<Result<()>>,
}

impl Task {
    /// Starts a task.
    pub(super) fn start(
        name: &'static str,
        stop: &Stop,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Self {
        let guard = stop.clone().on_drop();
        let handle = tokio::spawn(async move {
            let _guard = guard;
            work.await
        });
        Self { name, handle }
    }

    /// Waits for the end of the task.
    ///
    /// # Errors
    /// With the task's own error, or when it panicked.
    pub(super) async fn end(self) -> Result<()> {
        let name = self.name;
        match self.handle.await {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => Ok(()),
            Err(_) => Err(panicked(name)),
        }
    }

    /// Aborts the task and waits for its end.
    ///
    /// # Errors
    /// With its error, if it failed before.
    pub(super) async fn abort(self) -> Result<()> {
        self.handle.abort();
        self.end().await
    }
}

/// A thread.
pub(super) struct Thread {
    name: &'static str,
    handle: thread::JoinHandle<()>,
    /// Closed at the end of the thread.
    running: oneshot::Receiver<Infallible>,
}

impl Thread {
    /// Starts a thread.
    pub(super) fn start(
        name: &'static str,
        stop: &Stop,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let guard = stop.clone().on_drop();
        let (end, running) = oneshot::channel();
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let (_guard, _end) = (guard, end);
                work();
            })
            .with_context(|| format!("cannot start the {name} thread"))?;
        Ok(Self {
            name,
            handle,
            running,
        })
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    /// When it panicked.
    pub(super) async fn end(self) -> Result<()> {
        // Nothing is ever sent: this is its end, in which there is nothing left to wait for.
        let _ = self.running.await;
        self.handle.join().map_err(|_| panicked(self.name))
    }
}

fn panicked(name: &str) -> anyhow::Error {
    anyhow!("the {name} task panicked; please report it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[tokio::test]
    async fn a_task_that_fails_stops_the_daemon_and_its_error_is_kept() {
        let stop = Stop::on_signal().unwrap();
        let task = Task::start("server", &stop, async { bail!("no more files") });
        stop.clone().wait().await;
        let error = task.end().await.unwrap_err();
        assert_eq!(error.to_string(), "no more files");
    }

    #[tokio::test]
    async fn a_task_or_thread_that_panics_stops_the_daemon_and_is_named() {
        let stop = Stop::on_signal().unwrap();
        let task = Task::start("server", &stop, async { panic!("on purpose") });
        stop.clone().wait().await;
        let error = task.end().await.unwrap_err();
        assert!(error.to_string().contains("the server task panicked"));

        let stop = Stop::on_signal().unwrap();
        let thread = Thread::start("watcher", &stop, || panic!("on purpose")).unwrap();
        stop.clone().wait().await;
        let error = thread.end().await.unwrap_err();
        assert!(error.to_string().contains("the watcher task panicked"));
    }

    #[tokio::test]
    async fn an_aborted_task_is_no_failure() {
        let stop = Stop::on_signal().unwrap();
        let task = Task::start("pods", &stop, std::future::pending());
        task.abort().await.unwrap();
        assert!(stop.is_set());
    }
}
