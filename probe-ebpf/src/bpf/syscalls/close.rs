//! Connections that are closed.

use super::accept::reports_itself;
use super::call::{Attempt, argument, backup_probe, continue_with};
use super::connect;
use crate::bpf::kernel::Live;
use crate::bpf::kernel::serving;
use crate::bpf::{exception, memory};
use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use probe_ebpf::abi::{ObjectKey, Tail};
use probe_ebpf::machine::Kernel as _;

backup_probe!(enter_close, enter_close_backup, close_called);

#[inline(always)]
fn close_called(ctx: &TracePointContext, _: Attempt) {
    if let Some(live) = serving()
        && closing(&live, ctx).is_some()
    {
        continue_with(ctx, Tail::ConnectionCloses);
    }
}

/// The connection that is about to be closed.
#[inline(always)]
fn closing(live: &Live, ctx: &TracePointContext) -> Option<u64> {
    let sock = memory::sock_of_fd(argument::<0>(ctx) as u32).ok()?;
    live.conn(ObjectKey::new(live.target.tgid, sock))?;
    (connect::is_unix(sock) || !reports_itself()).then_some(sock)
}

/// Second half of the programs on `close`.
#[tracepoint]
pub fn connection_closes(ctx: TracePointContext) -> u32 {
    if let Some(live) = serving()
        && let Some(sock) = closing(&live, &ctx)
    {
        if live.machine().is_unanswered(sock)
            && let Some(conn) = live.conn(ObjectKey::new(live.target.tgid, sock))
        {
            exception::unanswered(&live, conn);
        }
        live.machine().closed(sock);
    }
    0
}
