//! Who is connected, and who has to go for one more.
//!
//! ```text
//!              ┌─────────────── answer sent ───────────────┐
//!              v                                           │
//! accepted ─> waiting ── request is whole, and allowed ─> answering ── peer takes no more ─> blocked
//! ```
//!
//! When all places are taken, one that waits goes: of the peer that has most connections, the one
//! that waits for longest. So none who asks nothing, however many, keeps out who asks. When none
//! waits, the one that is blocked for longest goes, after a moment; otherwise the next one waits
//! for a place, and whoever gets an answer meanwhile goes after it. Who came just now may have asked
//! already, and stays for a moment.

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

/// Who asks has asked by then, unless it is far away.
const WAITED_ENOUGH: Duration = Duration::from_millis(20);
/// A peer that is blocked may merely be far away.
const BLOCKED_ENOUGH: Duration = Duration::from_secs(1);
/// Then somebody may have to go who did not before.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Blocked ones at a time: what each was not sent yet takes memory.
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
    /// Told of each that is gone.
    left: Notify,
    /// All places were taken when the last one came.
    is_crowded: AtomicBool,
}

/// One of them; its place is free again when it is dropped.
pub struct Connection {
    place: Arc<Place>,
    shared: Arc<Shared>,
    permit: Option<OwnedSemaphorePermit>,
}

struct Place {
    peer: IpAddr,
    phase: Mutex<Phase>,
    cut: Notify,
}

/// What a connection does.
#[derive(Clone, Copy)]
struct Phase {
    is_answering: bool,
    /// Its peer does not take what is sent, since then.
    blocked: Option<Instant>,
    /// It neither answers nor is blocked since then; `None` before anything was read of it.
    waiting: Option<Instant>,
    /// It has to go.
    is_cut: bool,
}

impl Place {
    fn cut(&self) {
        locked(&self.phase).is_cut = true;
        self.cut.notify_one();
    }
}

impl Connections {
    /// As many as that at a time, beside as many that were just told to go.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            places: Arc::new(Semaphore::new(2 * limit)),
            shared: Arc::default(),
        }
    }

    /// A place for one more.
    pub async fn admit(&self, peer: IpAddr) -> Connection {
        let permit = loop {
            let is_full = self.is_full();
            self.shared.is_crowded.store(is_full, Ordering::Relaxed);
            // Who was told to go need not be gone yet: a crowd is let in and out faster so.
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

    /// Tells one that it has to go; false if none can.
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

    /// Until none is left.
    pub async fn all_ended(&self) {
        while !locked(&self.shared.open).is_empty() {
            self.shared.left.notified().await;
        }
    }
}

impl Connection {
    /// It is read from, from now on.
    pub fn begins(&self) {
        locked(&self.place.phase).waiting = Some(Instant::now());
    }

    /// Others want its place: its answer is to be its last.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.shared.is_crowded.load(Ordering::Relaxed)
    }

    /// Until it has to go.
    pub async fn cut(&self) {
        self.place.cut.notified().await;
    }

    /// Until its peer has been blocked for so long.
    pub async fn blocked_for(&self, limit: Duration) {
        loop {
            let until = match locked(&self.place.phase).blocked {
                Some(since) if since.elapsed() >= limit => return,
                Some(since) => since + limit,
                None => Instant::now() + limit.min(BLOCKED_ENOUGH),
            };
            tokio::time::sleep_until(until).await;
        }
    }

    /// A request of it is being answered until what this returns is dropped.
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
            self.bound_blocked();
        }
    }

    /// Of too many that are blocked, the one that is so for longest goes.
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

/// That a request is being answered.
pub struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut phase = locked(&self.0.place.phase);
        phase.is_answering = false;
        phase.waiting = Some(Instant::now());
    }
}

/// The bytes of a connection, which tell when its peer is blocked.
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

/// An IPv6 network has more addresses than anybody can count.
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
