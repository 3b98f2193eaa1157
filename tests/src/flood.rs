//! More requests than any application serves: a worker class that answers from a tight loop
//! (`tests/apps/flood.py`), and a client that sends without waiting for answers.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    gunicorn::{Builder, GunicornServer},
    python::Python,
    wait,
};

/// The constants of `tests/apps/flood.py`.
const REQUEST: &[u8] = b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
/// The time between two batches of requests.
const STEP: Duration = Duration::from_millis(1);
/// A bound on a batch.
const PIECE: usize = 4096;

/// A Gunicorn whose worker answers from a tight loop. It is observed by its system calls.
pub fn server(python: impl Into<Python>) -> Result<GunicornServer> {
    let builder = Builder::new(python, "flood:app").class("flood.FloodWorker");
    // It never sends its master a heartbeat.
    builder.timeout(0).start()
}

/// Sends this many requests, at this rate if there is one, reads each answer, and returns the time it
/// took.
pub fn send(port: u16, requests: usize, rate: Option<f64>) -> Result<Duration> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(wait::BOUND))?;
    stream.set_write_timeout(Some(wait::BOUND))?;
    let mut sending = stream.try_clone()?;
    let began = Instant::now();
    thread::scope(|scope| {
        let sender = scope.spawn(move || write(&mut sending, requests, rate));
        read(&mut stream, requests)?;
        let sent = sender.join();
        sent.unwrap_or_else(|_| bail!("the sender panicked"))
            .context("cannot send")
    })?;
    Ok(began.elapsed())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of requests that are due, rounded down"
)]
fn write(stream: &mut TcpStream, requests: usize, rate: Option<f64>) -> Result<()> {
    let began = Instant::now();
    let mut sent = 0;
    while sent < requests {
        let due = match rate {
            Some(rate) => (rate * began.elapsed().as_secs_f64()) as usize,
            None => requests,
        };
        let piece = due.min(requests).saturating_sub(sent).min(PIECE);
        if piece == 0 {
            thread::sleep(STEP);
            continue;
        }
        stream.write_all(&REQUEST.repeat(piece))?;
        sent += piece;
    }
    Ok(())
}

fn read(stream: &mut TcpStream, requests: usize) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut missing = requests * ANSWER.len();
    while missing > 0 {
        match stream
            .read(&mut buffer)
            .context("cannot read the answers")?
        {
            0 => bail!("{missing} bytes of the answers are missing"),
            bytes => missing = missing.saturating_sub(bytes),
        }
    }
    Ok(())
}
