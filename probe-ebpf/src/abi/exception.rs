//! An exception of a request.

use super::{ClassNames, FrameNames, Header, TRACEBACK_FRAMES};

/// Where the programs saw an exception.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenBy {
    /// Gunicorn called `handle_error` with it.
    HandleError = 1,
    /// Python still handled it when `handle_request` ended.
    Exit = 2,
    /// Python handled it when the application called `sys.exc_info` or `sys.exception`.
    Asked = 3,
    /// Python handled it when the connection was closed without an answer.
    Close = 4,
}

/// An exception that was handled while a request was served.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExceptionRecord {
    pub header: Header,
    /// [`super::RequestRecord::exceptions`] of the request; 0 for an exception in a worker's main thread before
    /// any request.
    pub request: u64,
    /// Address of the exception.
    pub object: u64,
    /// Address of the exception it came from; 0 for none.
    pub came_from: u64,
    /// Address of the first exception of its chain; 0 if it is the first itself.
    pub root: u64,
    pub tid: u32,
    /// A [`SeenBy`].
    pub seen_by: u16,
    /// 1 if it left the application: it reached `handle_request`.
    pub has_left: u16,
    /// How many calls below `handle_request` it was caught; [`NO_DEPTH`] or more when unknown.
    pub depth: u32,
    /// Entries of the traceback; the last of them are in `frames`.
    pub traceback_len: u32,
    pub class: ClassNames,
    pub root_class: ClassNames,
    /// The innermost frame of the root's traceback.
    pub root_frame: FrameNames,
    /// Frame number `n` of the traceback is at `n % TRACEBACK_FRAMES`.
    pub frames: [FrameNames; TRACEBACK_FRAMES],
}
const _: () =
    assert!(size_of::<ExceptionRecord>() == 16 + 6 * 8 + 2 * 120 + 256 * (TRACEBACK_FRAMES + 1));

/// [`ExceptionRecord::depth`] when it is unknown; a walk that does not know its start counts from
/// here.
pub const NO_DEPTH: u32 = 1 << 31;
