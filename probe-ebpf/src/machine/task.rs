//! Requests that tasks of an event loop serve: a task shows where they enter, and the bytes of their
//! sockets all else.

use super::wire::is_answered;
use super::{Kernel, Machine, Origin};
use crate::abi::{Conn, Stat, target_flags};
use crate::coroutine::Serving;

/// Status codes from which a request has failed.
pub const FAILED: u16 = 500;

impl<K: Kernel> Machine<'_, K> {
    /// A task begins to serve the request that was read last from a socket.
    #[inline(always)]
    pub fn task_entered(&self, sock: u64, serving: Serving) {
        let key = self.key(sock);
        let Some(mut conn) = self.kernel.conn(key) else {
            self.kernel.count(Stat::FlowWithoutConn);
            return;
        };
        if conn.request != 0 || is_answered(&conn) {
            // The end of the response before it could not be seen.
            self.finish_wire(&mut conn);
        }
        conn.entered_ns = self.kernel.now();
        conn.request = serving.request;
        conn.tid = self.kernel.tid();
        let server = self.key(serving.server);
        // A server of one request was never kept before.
        let is_new = serving.request == serving.server;
        if is_new || self.kernel.client(server) != Some(sock) {
            self.kernel.keep_client(server, sock);
        }
    }

    /// The connection of a request that a task serves, and the key of the request's exceptions: also when its
    /// response failed and is complete.
    #[inline(always)]
    pub fn task(&self, request: u64, server: u64) -> Option<(K::Conn<'_>, u64)> {
        if request == 0 {
            return None;
        }
        let sock = self.kernel.client(self.key(server))?;
        let conn = self.kernel.conn(self.key(sock))?;
        let entered_ns = if conn.request == request {
            conn.entered_ns
        } else if conn.failed_request == request {
            conn.failed_ns
        } else {
            return None;
        };
        Some((conn, entered_ns))
    }

    /// Whether tasks show where requests enter.
    #[inline(always)]
    #[must_use]
    pub fn has_tasks(&self) -> bool {
        self.kernel.target().flags & target_flags::TASKS != 0
    }

    /// Ends a request that its bytes end.
    #[inline(always)]
    pub(super) fn finish_wire(&self, conn: &mut Conn) {
        let (request, entered_ns, status) = (conn.request, conn.entered_ns, conn.status);
        self.finish(conn, origin(conn));
        if request != 0 && status >= FAILED {
            // A server logs the exception behind a response once that is complete.
            conn.failed_request = request;
            conn.failed_ns = entered_ns;
        }
    }
}

/// What ends a request that its bytes end.
#[inline(always)]
#[must_use]
pub fn origin(conn: &Conn) -> Origin {
    if conn.request == 0 {
        Origin::Socket
    } else {
        Origin::Task
    }
}
