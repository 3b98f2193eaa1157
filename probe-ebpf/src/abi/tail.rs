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
}

impl Tail {
    /// Number of such programs.
    pub const COUNT: u32 = 3;
}
