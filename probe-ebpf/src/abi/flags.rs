//! Flags of a [`super::RequestRecord`].

/// Gunicorn called `handle_error` for the request.
pub const ERROR_HANDLED: u16 = 1 << 0;
/// Gunicorn refused to parse the request, so it never entered the application.
pub const BAD_REQUEST: u16 = 1 << 1;
/// `handle_request` reached its end (also with an exception while iterating).
pub const EXITED: u16 = 1 << 2;
/// The connection was closed before a response was seen.
pub const CLOSED: u16 = 1 << 3;
/// A write of the response failed: the client had gone.
pub const WRITE_FAILED: u16 = 1 << 4;
/// The connection of the request is unknown; the record has the times of Python only.
pub const NO_CONNECTION: u16 = 1 << 5;
/// One read returned the first bytes of this request together with earlier bytes of the connection.
pub const PIPELINED: u16 = 1 << 6;
/// The connection was accepted before the observer started.
pub const ADOPTED: u16 = 1 << 7;
/// The kept start of the first line is followed by a gap.
pub const LINE_CUT: u16 = 1 << 8;
/// The worker exited before the request was done.
pub const WORKER_EXITED: u16 = 1 << 10;
/// Heads were not seen: each counts as one byte of `request_bytes` and `response_bytes`.
pub const NO_HEADS: u16 = 1 << 9;
/// The client had closed its side of the connection before the response began.
pub const CLIENT_LEFT: u16 = 1 << 11;
/// The response is a stream of events: Server-Sent Events.
pub const EVENT_STREAM: u16 = 1 << 12;
/// The connection was closed before the response was complete.
pub const INCOMPLETE: u16 = 1 << 13;
