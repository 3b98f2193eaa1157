//! Three Gunicorns and the observer of them.

use anyhow::{Context as _, Result};

use crate::{
    cgroup::MemoryGroup,
    gunicorn::{Builder, GunicornServer},
    observer::{self, Observer},
    venv::Venv,
    wait,
};

/// Memory of the gthread master and its workers: several times their needs.
const MEMORY: u64 = 256 << 20;
/// The `--timeout` of the sync master: long enough for a worker to boot in a slow guest.
const TIMEOUT_SECONDS: u32 = 10;

/// The servers and the observer of the trials.
pub struct Stage {
    pub observer: Observer,
    /// One sync worker.
    pub sync: GunicornServer,
    /// One gthread worker with four threads and little memory: its main thread sends heartbeats while
    /// another one uses it up.
    pub threads: GunicornServer,
    /// One worker on uvloop.
    pub uvloop: GunicornServer,
    // Last: it is removed after what is in it.
    _memory: MemoryGroup,
}

impl Stage {
    pub fn start() -> Result<Self> {
        let venv = Venv::debian()?;
        let memory = MemoryGroup::new(MEMORY)?;
        let plain = Builder::new(&venv, "kernels:app");
        let sync = plain.clone().unix().timeout(TIMEOUT_SECONDS);
        let sync = sync.start()?;
        let threads = plain.class("gthread").threads(4);
        let threads = threads.within(&memory).start()?;
        let uvloop = Builder::new(&venv, "asgi_shop:app");
        let uvloop = uvloop.class("uvicorn_worker.UvicornWorker").start()?;
        let pids = [&sync, &threads, &uvloop].map(|it| format!("--pid={}", it.pid()));
        let arguments = std::iter::once("--gil".to_owned()).chain(pids);
        let observer = Observer::start_with(&observer::binary()?, false, arguments)?;
        Ok(Self {
            observer,
            sync,
            threads,
            uvloop,
            _memory: memory,
        })
    }

    /// The observer's log.
    pub fn said(&self) -> String {
        self.observer.stderr().unwrap_or_default()
    }

    /// Waits until the sum of a family over a server's workers with these labels is as expected.
    pub fn expect(
        &self,
        server: &GunicornServer,
        name: &str,
        labels: &[(&str, &str)],
        expected: f64,
    ) -> Result<()> {
        let mut labels = labels.to_vec();
        labels.push(("worker_class", server.worker_class()));
        let mut seen = 0.0;
        let waited = wait::until(format!("{expected} of {name} {labels:?}"), || {
            seen = self.observer.scrape()?.sum(name, &labels);
            Ok((seen.to_string() == expected.to_string()).then_some(()))
        });
        waited.with_context(|| format!("{name} {labels:?} is {seen}"))
    }
}
