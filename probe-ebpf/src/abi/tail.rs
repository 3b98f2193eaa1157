//! Programs reached by a tail call.

/// A program that others continue with: index into the `TAILS` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The worker read bytes of a request.
    RequestRead = 0,
    /// The worker is about to write bytes that may begin a response.
    ResponseBegins = 1,
    /// The worker is about to close a connection.
    ConnectionCloses = 2,
    /// The worker is about to write a response that failed.
    ResponseFails = 3,
}

impl Tail {
    /// Number of such programs.
    pub const COUNT: u32 = 4;
}

/// A program that the one on `datetime.now` continues with: index into the `PYTHON_TAILS` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PythonTail {
    /// Again from the start, after something was learned.
    Again = 0,
    /// The calling code is unknown.
    LearnCode,
    /// The class of an object is unknown.
    LearnClass,
    /// A request with a body entered.
    MeasureHead,
    /// A request ended, perhaps by an exception, or its bytes do not show its status.
    EndCarefully,
    /// The same, once its exception is sent.
    End,
    /// A request failed.
    Fail,
    /// The same, once its exception is sent.
    Failed,
    /// An exception is to be sent.
    SendException,
    /// A request enters whose socket is not seen.
    EnterBlind,
    /// A task is created: again, after something was learned.
    TaskCreated,
    /// The code of its coroutine is unknown.
    LearnCoroutine,
    /// Where its server keeps the connection is unknown.
    LearnServer,
    /// A worker may fail to boot.
    FailBoot,
}

impl PythonTail {
    /// Number of such programs.
    pub const COUNT: u32 = 14;
}

/// A program that the one on closed sockets continues with: index into the `SOCKET_TAILS` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketTail {
    /// A request was not answered.
    Unanswered = 0,
}

impl SocketTail {
    /// Number of such programs.
    pub const COUNT: u32 = 1;
}

/// A program that those on reads and writes of sockets continue with: index into the `IO_TAILS` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoTail {
    /// A process whose requests are seen by the bytes of its sockets read.
    Read = 0,
    /// It wrote.
    Written,
    /// It wrote bytes that may begin a response.
    ResponseBegins,
    /// It wrote a response that failed.
    ResponseFails,
}

impl IoTail {
    /// Number of such programs.
    pub const COUNT: u32 = 4;
}
