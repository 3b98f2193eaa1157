//! Counters of the programs.

/// Index into the per-CPU `STATS` map: losses by cause, and other counts.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// The ring buffer had no room for the record of a request.
    RingFull = 0,
    /// `CONNS` had no room for a connection, or for a request without one.
    ConnsFull,
    /// Nothing any more: requests are kept with their connection. The name stays for those who read it.
    FlowsFull,
    /// `TARGETS` had no room for a forked worker.
    TargetsFull,
    /// `THREADS` had no room for a thread.
    ThreadsFull,
    /// The thread state or the calling frame could not be read.
    FrameUnreadable,
    /// The bytes of a request or response could not be read.
    BufferUnreadable,
    /// The socket behind an accepted descriptor could not be found.
    SocketUnreadable,
    /// A request began while an earlier one of its connection was still open.
    FlowReplaced,
    /// `handle_request` ended without a known beginning: it began before the observer did.
    ExitUnmatched,
    /// The connection of a request is unknown.
    FlowWithoutConn,
    /// Method and path of a pipelined request could not be read.
    LineUnreadable,
    /// An exception could not be read.
    ExceptionUnreadable,
    /// An exception was dropped to keep room for requests: too many came at once.
    ExceptionDropped,
    /// The request of an exception was not found: too many calls were below `handle_request`.
    StackTooDeep,
    /// `datetime.now` calls in targets.
    PythonHits,
    /// `datetime.now` calls by Gunicorn's request handling.
    PythonRequestHits,
    /// `sys.exc_info` and `sys.exception` calls in targets.
    ExceptionHits,
    /// Frames that an exception left in targets during a deep capture.
    DeepCaptureHits,
    /// The ring buffer had no room for a record other than a request's.
    RingFullOther,
    /// Tasks created in targets whose tasks serve requests.
    TaskHits,
}

impl Stat {
    /// Every counter in index order: its exported name, and whether it counts a loss.
    pub const ALL: &'static [(Stat, &'static str, bool)] = &[
        (Stat::RingFull, "ring_full", true),
        (Stat::ConnsFull, "connections_full", true),
        (Stat::FlowsFull, "requests_full", true),
        (Stat::TargetsFull, "targets_full", true),
        (Stat::ThreadsFull, "threads_full", true),
        (Stat::FrameUnreadable, "frame_unreadable", true),
        (Stat::BufferUnreadable, "buffer_unreadable", true),
        (Stat::SocketUnreadable, "socket_unreadable", true),
        (Stat::FlowReplaced, "request_replaced", true),
        (Stat::ExitUnmatched, "exit_unmatched", true),
        (Stat::FlowWithoutConn, "request_without_connection", true),
        (Stat::LineUnreadable, "request_line_unreadable", true),
        (Stat::ExceptionUnreadable, "exception_unreadable", true),
        (Stat::ExceptionDropped, "exception_dropped", true),
        (Stat::StackTooDeep, "stack_too_deep", false),
        (Stat::PythonHits, "python_hits", false),
        (Stat::PythonRequestHits, "python_request_hits", false),
        (Stat::ExceptionHits, "exception_hits", false),
        (Stat::DeepCaptureHits, "deep_capture_hits", false),
        (Stat::RingFullOther, "ring_full_other", true),
        (Stat::TaskHits, "task_hits", false),
    ];
    /// Number of counters.
    pub const COUNT: u32 = 21;
}
const _: () = {
    assert!(Stat::ALL.len() == Stat::COUNT as usize);
    let mut i = 0;
    while i < Stat::ALL.len() {
        assert!(Stat::ALL[i].0 as usize == i);
        i += 1;
    }
};
