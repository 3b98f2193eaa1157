//! Limits on connections: which connection is closed to make room for one more.
//!
//! ```text
//!              ┌─────────────── answer sent ───────────────┐
//!              v                                           │
//! accepted ─> waiting ── complete, authenticated request ─> answering ── peer reads no more ─> blocked
//! ```
//!
//! When the limit is reached, a waiting connection is closed: of the peer with most connections, the
//! one that waits longest. So idle clients, however many, cannot lock out a client with a request. If
//! none waits, the connection that is blocked longest is closed, after a moment. If none is blocked
//! either, the new client waits, and each connection closes after its current response. A new
//! connection stays for a moment, because its request may be on the way.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// A client has sent its request within this time, unless it is far away.
const WAITED_ENOUGH: Duration = Duration::from_millis(20);
/// Time before a blocked peer counts as one: it may merely be far away.
const BLOCKED_ENOUGH: Duration = Duration::from_secs(1);
/// Time until the next attempt to make room.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Most blocked connections at a time: the unsent part of a response takes memory.
const BLOCKED_LIMIT: usize = 32;

/// All connections.
pub struct Connections {
    limit: usize,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<Vec<Arc<Place>>>,
    /// Notified of each closed connection.
    left: Notify,
    /// The limit was reached when the last connection came.
    is_crowded: AtomicBool,
}

/// A connection; dropping it frees its place.
pub struct Connection {
    place: Arc<Place>,
    shared: Arc<Shared>,
    permit: Option<OwnedSemaphorePermit>,
}

struct Place {
    peer: IpAddr,
    phase: Mutex<Phase>,
    cut: Notify,
    /// Notified when its peer reads no more.
    blocked: Notify,
}

/// State of a connection.
#[derive(Clone, Copy)]
struct Phase {
    is_answering: bool,
    /// Since when its peer does not read.
    blocked: Option<Instant>,
    /// Since when it neither answers nor is blocked; `None` before the first read.
    waiting: Option<Instant>,
    /// It must close.
    is_cut: bool,
}

impl Place {
    fn cut(&self) {
        locked(&self.phase).is_cut = true;
        self.cut.notify_one();
    }
}

impl Connections {
    /// `limit` connections at a time, besides as many that must close.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            places: Arc::new(Semaphore::new(2 * limit)),
            shared: Arc::default(),
        }
    }

    /// Waits for a place for a new connection.
    pub async fn admit(&self, peer: IpAddr) -> Connection {
        let permit = loop {
            let is_full = self.is_full();
            self.shared.is_crowded.store(is_full, Ordering::Relaxed);
            // A connection that must close need not be gone yet: that makes room faster.
            if !is_full || self.make_room() {
                let permit = Arc::clone(&self.places).try_acquire_owned();
                if let Ok(permit) = permit {
                    break permit;
                }
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, self.shared.left.notified()).await;
        };
        let place = Arc::new(Place {
            peer: network(peer),
            phase: Mutex::new(Phase {
                is_answering: false,
                blocked: None,
                waiting: None,
                is_cut: false,
            }),
            cut: Notify::new(),
            blocked: Notify::new(),
        });
        locked(&self.shared.open).push(Arc::clone(&place));
        Connection {
            place,
            shared: Arc::clone(&self.shared),
            permit: Some(permit),
        }
    }

    fn is_full(&self) -> bool {
        let open = locked(&self.shared.open);
        let stay = open.iter().filter(|place| !locked(&place.phase).is_cut);
        stay.count() >= self.limit
    }

    /// Makes a connection close; false if there is none to close.
    pub fn make_room(&self) -> bool {
        let place = self.first_to_go();
        if let Some(place) = &place {
            place.cut();
        }
        place.is_some()
    }

    fn first_to_go(&self) -> Option<Arc<Place>> {
        let open = locked(&self.shared.open);
        let mut of_peer = HashMap::<_, usize>::new();
        for place in open.iter() {
            *of_peer.entry(place.peer).or_default() += 1;
        }
        let phases = || {
            let phases = open.iter().map(|place| (place, *locked(&place.phase)));
            phases.filter(|(_, phase)| !phase.is_cut)
        };
        let waits = phases()
            .filter(|(_, phase)| !phase.is_answering && phase.blocked.is_none())
            .filter_map(|(place, phase)| Some((place, phase.waiting?)))
            .filter(|(_, since)| since.elapsed() >= WAITED_ENOUGH);
        let longest =
            waits.max_by_key(|&(place, since)| (of_peer.get(&place.peer), Reverse(since)));
        let blocked = || {
            let blocked = phases().filter_map(|(place, phase)| Some((place, phase.blocked?)));
            blocked
                .filter(|(_, since)| since.elapsed() >= BLOCKED_ENOUGH)
                .min_by_key(|&(_, since)| since)
        };
        let place = longest.map(|(place, _)| place);
        place.or_else(|| blocked().map(|(place, _)| place)).cloned()
    }

    /// Waits until all connections are closed.
    pub async fn all_ended(&self) {
        while !locked(&self.shared.open).is_empty() {
            self.shared.left.notified().await;
        }
    }
}

impl Connection {
    /// Reading begins.
    pub fn begins(&self) {
        locked(&self.place.phase).waiting = Some(Instant::now());
    }

    /// Others wait for a place: its current response must be its last.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.shared.is_crowded.load(Ordering::Relaxed)
    }

    /// Waits until it must close.
    pub async fn cut(&self) {
        self.place.cut.notified().await;
    }

    /// Waits until its peer has been blocked for this time.
    pub async fn blocked_for(&self, limit: Duration) {
        loop {
            let blocked = locked(&self.place.phase).blocked;
            match blocked {
                Some(since) if since.elapsed() >= limit => return,
                Some(since) => tokio::time::sleep_until(since + limit).await,
                None => self.place.blocked.notified().await,
            }
        }
    }

    /// A request is being answered until the returned guard is dropped.
    #[must_use]
    pub fn answering(self: &Arc<Self>) -> Answering {
        locked(&self.place.phase).is_answering = true;
        Answering(Arc::clone(self))
    }

    fn is_blocked(&self) {
        let before = {
            let blocked = &mut locked(&self.place.phase).blocked;
            blocked.replace(blocked.unwrap_or_else(Instant::now))
        };
        if before.is_none() {
            self.place.blocked.notify_one();
            self.bound_blocked();
        }
    }

    /// If too many connections are blocked, the one that is blocked longest is closed.
    fn bound_blocked(&self) {
        let open = locked(&self.shared.open);
        let blocked = open.iter().filter_map(|place| {
            let phase = locked(&place.phase);
            let since = phase.blocked.filter(|_| !phase.is_cut)?;
            Some((since, place))
        });
        let blocked: Vec<_> = blocked.collect();
        if blocked.len() > BLOCKED_LIMIT
            && let Some((_, place)) = blocked.iter().min_by_key(|(since, _)| *since)
        {
            place.cut();
        }
    }

    fn is_flushed(&self) {
        let mut phase = locked(&self.place.phase);
        if phase.blocked.take().is_some() {
            phase.waiting = Some(Instant::now());
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        locked(&self.shared.open).retain(|place| !Arc::ptr_eq(place, &self.place));
        drop(self.permit.take());
        self.shared.left.notify_one();
    }
}

/// Guard of a request that is being answered.
pub struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut phase = locked(&self.0.place.phase);
        phase.is_answering = false;
        phase.waiting = Some(Instant::now());
    }
}

/// The stream of a connection, which notes when its peer is blocked.
pub struct Watched<S> {
    stream: S,
    connection: Arc<Connection>,
}

impl<S: Unpin> Watched<S> {
    pub fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }

    fn noted<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_pending() {
            self.connection.is_blocked();
        }
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.noted(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        if poll.is_ready() {
            self.connection.is_flushed();
        }
        self.noted(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(context);
        self.noted(poll)
    }
}

/// The network of a peer: one IPv6 client may have a whole /64.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
