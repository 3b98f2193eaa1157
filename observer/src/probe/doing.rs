//! What a connection does, from its entry in the maps of the programs.

use crate::ingest::decode::stream;
use observer_model::event::StreamKind;
use observer_model::fact::Connections;
use probe_ebpf::abi::{Conn, Phase, Role, Target, marks};
use probe_ebpf::gunicorn::Family;
use probe_ebpf::machine::wire::has_request_line;

/// A response whose end is not known is over when nothing was written for this time.
const SILENT_NS: u64 = 1_000_000_000;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It was accepted, and nothing was read from it.
    Waits {
        since_ns: u64,
    },
    /// A request, or a part of it, was read; it did not enter the application.
    Reads {
        since_ns: u64,
    },
    /// A request is in flight.
    Serves {
        begun_ns: u64,
    },
    Streams(StreamKind),
    /// It is kept for the next request.
    Idles,
    /// A request ends on it.
    Ends,
}

impl Doing {
    /// Of a connection of this process; `None` for one that is no target any more.
    pub(super) fn of(conn: &Conn, target: Option<&Target>, now_ns: u64) -> Self {
        let is_unread = target.is_some_and(Target::is_by_socket);
        if conn.marks & marks::SWITCHED != 0 {
            return Self::Streams(StreamKind::WebSocket);
        }
        match conn.phase {
            phase if phase == Phase::Entered as u16 && conn.exited_ns == 0 => {
                // A sync worker does nothing else meanwhile.
                let is_alone = conn.family == Family::Sync as u16;
                match stream(conn.status, conn.flags).filter(|_| !is_alone) {
                    Some(kind) => Self::Streams(kind),
                    None => Self::Serves {
                        begun_ns: conn.entered_ns,
                    },
                }
            }
            phase if phase == Phase::Reading as u16 && is_unread => {
                let is_worker = target.is_some_and(|target| target.role == Role::Worker as u32);
                if let Some(kind) = stream(conn.status, conn.flags) {
                    Self::Streams(kind)
                } else if !is_worker || !has_request_line(conn) || is_over(conn, now_ns) {
                    Self::Idles
                } else {
                    Self::Serves {
                        begun_ns: conn.first_read_ns,
                    }
                }
            }
            phase if phase == Phase::Reading as u16 => Self::Reads {
                since_ns: conn.first_read_ns,
            },
            phase if phase == Phase::Idle as u16 && conn.is_unused() => Self::Waits {
                since_ns: conn.accepted_ns,
            },
            phase if phase == Phase::Idle as u16 => Self::Idles,
            _ => Self::Ends,
        }
    }
}

/// Whether a response is over as far as anybody can tell: its end cannot be seen, and the worker writes
/// no more.
fn is_over(conn: &Conn, now_ns: u64) -> bool {
    let is_silent = now_ns.saturating_sub(conn.last_write_ns) > SILENT_NS;
    conn.status != 0 && conn.response_end == 0 && conn.last_write_ns != 0 && is_silent
}

/// Counts connections without a request in flight.
pub(super) trait Count {
    fn count(&mut self, doing: Doing);
}

impl Count for Connections {
    fn count(&mut self, doing: Doing) {
        let (count, first_ns, since_ns) = match doing {
            Doing::Waits { since_ns } => {
                (&mut self.accepted, &mut self.accepted_since_ns, since_ns)
            }
            Doing::Reads { since_ns } => (&mut self.reading, &mut self.read_since_ns, since_ns),
            Doing::Streams(StreamKind::WebSocket) => return self.websockets += 1,
            Doing::Streams(StreamKind::Events) => return self.events += 1,
            Doing::Idles => return self.idle += 1,
            Doing::Serves { .. } | Doing::Ends => return,
        };
        *count += 1;
        if since_ns != 0 {
            *first_ns = Some(first_ns.unwrap_or(since_ns).min(since_ns));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_ebpf::abi::{HEAD_BYTES, HEAD_SLACK, ObjectKey, flags, target_flags};
    use probe_ebpf::http::HeadScan;

    fn conn(phase: Phase) -> Conn {
        Conn {
            key: ObjectKey::new(7, 0x9000),
            generation: 1,
            established_ns: 0,
            accepted_ns: 10,
            first_read_ns: 20,
            entered_ns: 30,
            exited_ns: 0,
            first_write_ns: 40,
            last_write_ns: 50,
            request_bytes: 0,
            response_bytes: 0,
            refused_ns: 0,
            request: 0,
            client: 0,
            failed_request: 0,
            failed_ns: 0,
            request_scan: HeadScan::default(),
            response_end: 0,
            request_head_bytes: 0,
            response_head_bytes: 0,
            ordinal: 0,
            line_len: 0,
            exceptions: 0,
            captured_frames: 0,
            tid: 0,
            identity: 0,
            status: 0,
            phase: phase as u16,
            flags: 0,
            line_source: 0,
            family: Family::Gthread as u16,
            marks: 0,
            version: 0,
            is_shared: 0,
            reserved: 0,
            line: [0; HEAD_BYTES + HEAD_SLACK],
        }
    }

    fn worker(flags: u32) -> Target {
        Target {
            flags,
            role: Role::Worker as u32,
            ..Target::default()
        }
    }

    #[test]
    fn a_connection_waits_is_read_serves_and_idles() {
        let of = |conn: &Conn| Doing::of(conn, Some(&worker(0)), 100);
        let accepted = conn(Phase::Idle);
        assert_eq!(of(&accepted), Doing::Waits { since_ns: 10 });
        assert_eq!(of(&conn(Phase::Reading)), Doing::Reads { since_ns: 20 });
        assert_eq!(of(&conn(Phase::Entered)), Doing::Serves { begun_ns: 30 });
        let kept = Conn {
            ordinal: 1,
            ..accepted
        };
        assert_eq!(of(&kept), Doing::Idles);
        let left = Conn {
            exited_ns: 60,
            ..conn(Phase::Entered)
        };
        assert_eq!(of(&left), Doing::Ends);
    }

    #[test]
    fn streams_are_no_requests_in_flight_but_in_a_sync_worker() {
        let events = Conn {
            flags: flags::EVENT_STREAM,
            ..conn(Phase::Entered)
        };
        let switched = Conn {
            status: 101,
            ..conn(Phase::Entered)
        };
        let of = |conn: &Conn| Doing::of(conn, Some(&worker(0)), 100);
        assert_eq!(of(&events), Doing::Streams(StreamKind::Events));
        assert_eq!(of(&switched), Doing::Streams(StreamKind::WebSocket));
        let alone = Conn {
            family: Family::Sync as u16,
            ..events
        };
        assert_eq!(of(&alone), Doing::Serves { begun_ns: 30 });
        let mut counted = Connections::default();
        counted.count(of(&events));
        counted.count(of(&switched));
        assert_eq!((counted.events, counted.websockets), (1, 1));
    }

    #[test]
    fn on_the_wire_a_response_without_an_end_is_over_when_it_is_silent() {
        let unread = worker(target_flags::BY_SOCKET);
        let mut answered = Conn {
            status: 200,
            line_len: 9,
            ..conn(Phase::Reading)
        };
        answered.line[..9].copy_from_slice(b"GET / HTT");
        let of = |conn: &Conn, now_ns| Doing::of(conn, Some(&unread), now_ns);
        assert_eq!(of(&answered, 100), Doing::Serves { begun_ns: 20 });
        assert_eq!(of(&answered, 60 + SILENT_NS), Doing::Idles);
        let measured = Conn {
            response_end: 9_000,
            ..answered
        };
        let serves = Doing::Serves { begun_ns: 20 };
        assert_eq!(of(&measured, 60 + SILENT_NS), serves);
        // Encrypted: nobody knows what it is.
        answered.line[..9].copy_from_slice(b"\x16\x03\x01\x02\0\x01\0\x01\xfc");
        assert_eq!(of(&answered, 100), Doing::Idles);
    }

    #[test]
    fn the_first_that_waits_is_kept() {
        let mut counted = Connections::default();
        for since_ns in [0, 30, 10, 20] {
            counted.count(Doing::Waits { since_ns });
        }
        assert_eq!((counted.waiting(), counted.waits_since_ns()), (4, Some(10)));
    }
}
