//! Counts of streams: responses that are long on purpose.

use crate::event::Request;

/// Counts of streams of one kind that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    pub streams: u64,
    /// From the first to the last byte that the worker wrote.
    pub duration_ns: u64,
    /// Bytes that the worker wrote.
    pub sent_bytes: u64,
}

impl StreamCounts {
    /// Counts a stream.
    pub fn add(&mut self, request: &Request) {
        let times = request.first_write_ns.zip(request.last_write_ns);
        let duration_ns = times.map_or(0, |(begin, end)| end.saturating_sub(begin));
        self.merge(Self {
            streams: 1,
            duration_ns,
            sent_bytes: request.response_bytes.unwrap_or(0),
        });
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: Self) {
        self.streams += other.streams;
        self.duration_ns = self.duration_ns.saturating_add(other.duration_ns);
        self.sent_bytes = self.sent_bytes.saturating_add(other.sent_bytes);
    }
}
