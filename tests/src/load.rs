//! Many requests at once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Result, ensure};

use crate::{
    client::{self, Client, Request},
    gunicorn::GunicornServer,
    response::Response,
};

/// What to send: `requests` in all, taken from `routes` in turn, `concurrency` at a time.
#[derive(Clone, Debug)]
pub struct Load {
    pub requests: usize,
    pub concurrency: usize,
    pub routes: Vec<Request>,
}

/// The outcome of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers by status and path.
    pub answers: BTreeMap<(u16, String), usize>,
    /// Bytes of all answers on the wire.
    pub bytes: u64,
    /// Bytes of their bodies, with the framing of chunked ones.
    pub body_bytes: u64,
    /// Requests without a complete answer, with the reason.
    pub failures: Vec<String>,
}

impl Tally {
    /// All answers.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answers.values().sum()
    }
}

impl Load {
    /// Sends all requests. A connection is kept as long as the server keeps it.
    #[must_use]
    pub fn run(&self, port: u16) -> Tally {
        let tally = Mutex::default();
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..self.concurrency {
                scope.spawn(|| {
                    work(port, &self.routes, &tally, || {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        (number < self.requests).then_some(number)
                    });
                });
            }
        });
        tally.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests a path this many times; each answer must be a 200.
pub fn ask(server: &GunicornServer, path: &str, times: usize) -> Result<()> {
    for _ in 0..times {
        let answer = server.fetch(&Request::get(path))?;
        ensure!(answer.status == 200, "answered {}", answer.status);
    }
    Ok(())
}

/// Sends a request that gets no answer, and does not wait.
pub fn send_unanswered(server: &GunicornServer, path: &str) {
    let (port, request) = (server.port, Request::get(path));
    // It ends when the server does, at the latest.
    thread::spawn(move || client::fetch(port, &request));
}

fn work(port: u16, routes: &[Request], tally: &Mutex<Tally>, next: impl Fn() -> Option<usize>) {
    let mut kept = None;
    while let Some(number) = next() {
        let request = &routes[number % routes.len()];
        let answer = one(port, &mut kept, request);
        let mut tally = lock(tally);
        match answer {
            Ok(response) => {
                let key = (response.status, request.path().to_owned());
                *tally.answers.entry(key).or_default() += 1;
                tally.bytes += response.bytes();
                tally.body_bytes += response.body_bytes;
            }
            Err(error) => tally.failures.push(format!("{error:#}")),
        }
    }
}

fn one(port: u16, kept: &mut Option<Client>, request: &Request) -> Result<Response> {
    let mut client = match kept.take() {
        Some(client) => client,
        None => Client::connect(port)?,
    };
    let response = client.request(request)?;
    anyhow::ensure!(
        response.complete,
        "{} {} was cut",
        request.method,
        request.target
    );
    if !response.closes {
        *kept = Some(client);
    }
    Ok(response)
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Load that goes on until it is stopped.
pub struct Background {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    /// Starts it. `pause` is called between the requests of one connection.
    pub fn start(
        port: u16,
        concurrency: usize,
        routes: Vec<Request>,
        pause: impl Fn() + Clone + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::<Mutex<Tally>>::default();
        let next = Arc::new(AtomicUsize::new(0));
        let threads = (0..concurrency)
            .map(|_| {
                let (stop, tally, next) = (stop.clone(), tally.clone(), next.clone());
                let (routes, pause) = (routes.clone(), pause.clone());
                thread::spawn(move || {
                    work(port, &routes, &tally, || {
                        pause();
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        (!stop.load(Ordering::Relaxed)).then_some(number)
                    });
                })
            })
            .collect();
        Self {
            stop,
            tally,
            threads,
        }
    }

    /// The outcome so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Stops it, after the requests that are on their way.
    #[must_use]
    pub fn stop(mut self) -> Tally {
        self.end();
        self.tally()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}
