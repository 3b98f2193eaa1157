//! Ends a daemon.

use super::task::Thread;
use super::tasks::Tasks;
use crate::engine::Engine;
use anyhow::Result;
use observer_model::views::metrics_view::ObserverView;
use std::future::Future;
use tokio::time::{Instant, timeout_at};

/// Ends every task, in this order:
///
/// 1. `stop` is set for every task; the pods task, which could still wake the watcher, is aborted
/// 2. the watcher ends, which detaches the programs; the engine takes its last facts meanwhile
/// 3. the screen gives the terminal back, at the same time
/// 4. the engine takes what the ring buffer still holds, and ends the record
/// 5. HTTP responses under way end, and the last lines are written
///
/// A task that has not ended by `deadline` is left to the end of the process, in which the kernel
/// detaches the programs. `ran` is how the engine ended.
///
/// # Errors
/// With the first failure of a task, or of `ran`.
pub(super) async fn end(tasks: Tasks, ran: Result<()>, deadline: Instant) -> Result<()> {
    let Tasks {
        stop,
        mut engine,
        watcher,
        server,
        pods,
        screen,
        views,
        lines,
    } = tasks;
    stop.stop();
    let followed = optional(pods, |task| by(deadline, "pods", task.abort())).await;
    engine.close();
    let (watched, shown) = tokio::join!(
        by(deadline, "watcher", end_watcher(&mut engine, watcher)),
        optional(screen, |screen| by(deadline, "screen", async {
            tokio::task::spawn_blocking(|| screen.end()).await?
        })),
    );
    let viewed = optional(views, |task| by(deadline, "views", task.abort())).await;
    let finished = engine.finish();
    let served = optional(server, |task| by(deadline, "server", task.end())).await;
    let written = lines.map_or(Ok(()), |lines| {
        let written = lines.end();
        log_losses(finished.as_ref().ok());
        written
    });
    ran.and(watched)
        .and(served)
        .and(followed)
        .and(viewed)
        .and(shown)
        .and(finished.map(drop))
        .and(written)
}

/// Waits for the watcher, and takes the facts that it may still wait to send.
async fn end_watcher(engine: &mut Engine, watcher: Thread) -> Result<()> {
    let taken = engine.take_last_facts().await;
    watcher.end().await.and(taken)
}

/// Waits for the end of a task, if there is one.
async fn optional<T, F: Future<Output = Result<()>>>(
    task: Option<T>,
    end: impl FnOnce(T) -> F,
) -> Result<()> {
    match task {
        Some(task) => end(task).await,
        None => Ok(()),
    }
}

/// Waits for the end of a task until the deadline.
async fn by(
    deadline: Instant,
    task: &'static str,
    end: impl Future<Output = Result<()>>,
) -> Result<()> {
    match timeout_at(deadline, end).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::info!(task, "task did not end in time, exiting without it");
            Ok(())
        }
    }
}

/// Logs losses where there are no metrics.
fn log_losses(observer: Option<&ObserverView>) {
    for (cause, count) in observer.into_iter().flat_map(ObserverView::losses) {
        tracing::warn!("lost {count} events ({cause}); totals are lower bounds");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_hangs_is_left_at_the_deadline_and_one_that_fails_is_not() {
        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(1);
        assert!(
            by(deadline, "watcher", std::future::pending())
                .await
                .is_ok()
        );
        assert_eq!(Instant::now(), deadline);
        let failed = by(deadline, "server", async { bail!("no more files") }).await;
        assert_eq!(failed.unwrap_err().to_string(), "no more files");
    }
}
