//! Loops of system calls and nothing else: the most that an observer can cost a process that is no
//! Gunicorn.

use std::{
    fs::File,
    io::{Read as _, Write as _, pipe},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    time::Instant,
};

use anyhow::{Context as _, Result};

use super::spread::midmean;

/// A loop.
pub struct Loop {
    pub name: &'static str,
    /// System calls of one round.
    pub calls: u32,
    pub rounds: u32,
    /// The most that the observer may add to a round.
    pub aim_ns: f64,
    all_rounds: Box<dyn FnMut(u32) -> Result<()>>,
}

/// Rounds of a cheap loop.
const ROUNDS: u32 = 100_000;
const CONNECTIONS: u32 = 5_000;
/// The clock is read this often, so that interruptions do not count.
const PIECES: u32 = 10;

impl Loop {
    /// Nanoseconds of a round.
    pub fn run(&mut self) -> Result<f64> {
        let rounds = self.rounds / PIECES;
        let mut piece = || {
            let start = Instant::now();
            (self.all_rounds)(rounds).context(self.name)?;
            Ok(start.elapsed().as_nanos() as f64 / f64::from(rounds))
        };
        let pieces: Result<Vec<f64>> = (0..PIECES).map(|_| piece()).collect();
        Ok(midmean(pieces?))
    }

    pub fn all() -> Result<Vec<Self>> {
        let (mut reader, mut writer) = pipe().context("no pipe")?;
        let (here, there) = UnixDatagram::pair().context("no pair of sockets")?;
        Ok(vec![
            Self {
                name: "`getppid`",
                calls: 1,
                rounds: ROUNDS,
                aim_ns: 5.0,
                all_rounds: each(|| {
                    nix::unistd::getppid();
                    Ok(())
                }),
            },
            Self {
                name: "`write` and `read` of a pipe",
                calls: 2,
                rounds: ROUNDS,
                aim_ns: 5.0,
                all_rounds: each(move || {
                    writer.write_all(b"x")?;
                    Ok(reader.read_exact(&mut [0])?)
                }),
            },
            Self {
                name: "`openat` and `close`",
                calls: 2,
                rounds: ROUNDS,
                aim_ns: 5.0,
                all_rounds: each(|| Ok(File::open("/dev/null").map(drop)?)),
            },
            Self {
                name: "`sendto` and `recvfrom` of a datagram",
                calls: 2,
                rounds: ROUNDS,
                aim_ns: 200.0,
                all_rounds: each(move || {
                    here.send(b"x")?;
                    there.recv(&mut [0])?;
                    Ok(())
                }),
            },
            Self {
                name: "`connect`, `accept4` and `close` of a TCP connection",
                calls: 5,
                rounds: CONNECTIONS,
                aim_ns: 150.0,
                all_rounds: Box::new(connections),
            },
        ])
    }
}

fn each(mut round: impl FnMut() -> Result<()> + 'static) -> Box<dyn FnMut(u32) -> Result<()>> {
    Box::new(move |rounds| (0..rounds).try_for_each(|_| round()))
}

fn connections(count: u32) -> Result<()> {
    // A port of its own each time: those of closed connections are kept for a while.
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port")?;
    let address = listener.local_addr()?;
    for _ in 0..count {
        let client = TcpStream::connect(address)?;
        let server = listener.accept()?;
        drop((client, server));
    }
    Ok(())
}
