//! The record of a request.

use super::Origin;
use crate::abi::{Conn, HEAD_BYTES, Header, RecordKind, RequestRecord, flags};

impl<const LINE: usize> RequestRecord<LINE> {
    /// Writes every field but the header and the line.
    #[inline(always)]
    pub fn fill(&mut self, tid: u32, conn: &Conn, origin: Origin) {
        self.established_ns = conn.established_ns;
        self.accepted_ns = conn.accepted_ns;
        self.first_read_ns = conn.first_read_ns;
        self.entered_ns = conn.entered_ns;
        self.first_write_ns = conn.first_write_ns;
        self.last_write_ns = conn.last_write_ns;
        self.exited_ns = conn.exited_ns;
        self.request_bytes = conn.request_bytes;
        self.response_bytes = conn.response_bytes;
        self.request_head_bytes = conn.request_head_bytes;
        self.response_head_bytes = conn.response_head_bytes;
        self.version = conn.version;
        self.ordinal = conn.ordinal;
        self.status = conn.status;
        self.flags = conn.flags;
        self.line_len = conn.line_len as u16;
        self.line_source = conn.line_source;
        self.tid = tid;
        self.family = conn.family;
        self.timed_by = origin.timed_by() as u16;
        if let Origin::Refused = origin {
            self.flags |= flags::BAD_REQUEST | flags::ERROR_HANDLED;
            self.exceptions = conn.refused_ns;
            self.exceptions_count = u64::from(conn.refused_ns != 0);
        } else {
            self.exceptions = match origin {
                // They may come later.
                Origin::Task => conn.entered_ns,
                _ => conn.exceptions_key(),
            };
            self.exceptions_count = u64::from(conn.exceptions) + u64::from(conn.captured_frames);
        }
    }
}

impl RequestRecord {
    /// The record of a request that the exit of its worker ended.
    #[must_use]
    pub fn of_exit(conn: &Conn, origin: Origin, time_ns: u64) -> Self {
        let mut record = Self::EMPTY;
        record.header = Header {
            kind: RecordKind::Request as u16,
            len: size_of::<Self>() as u16,
            tgid: conn.key.tgid,
            time_ns,
        };
        record.fill(conn.tid, conn, origin);
        record.flags |= flags::WORKER_EXITED;
        if record.exited_ns == 0 {
            record.exited_ns = time_ns;
        }
        record.line.copy_from_slice(&conn.line[..HEAD_BYTES]);
        record
    }
}
