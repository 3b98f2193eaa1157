//! Listening sockets of a network namespace, by netlink (`sock_diag(7)`); needs no privilege.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{self, ExtensionFlags, InetRequest, InetResponse, SocketId};
use netlink_packet_sock_diag::unix::nlas::{Nla as UnixNla, UnixDiagName};
use netlink_packet_sock_diag::unix::{self, ShowFlags, UnixRequest, UnixResponse};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as Kernel};

use observer_model::fact::Listener;

/// What the address of a Unix socket begins with.
pub const UNIX_PREFIX: &str = "unix:";

/// Listeners by the inode of their socket.
pub type Listening = HashMap<u64, Listener>;

/// The kernel fills no larger buffer (`netlink_recvmsg`, `max_recvmsg_len`).
const BUFFER_BYTES: usize = 32 << 10;

/// The listening sockets of this thread's network namespace. A family that the kernel cannot list (a
/// missing module) is left out.
///
/// # Errors
/// When netlink fails.
pub fn listening() -> io::Result<Listening> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&Kernel::new(0, 0))?;
    let mut found = Listening::new();
    for (name, request) in [
        ("IPv4", tcp(AF_INET, SocketId::new_v4())),
        ("IPv6", tcp(AF_INET6, SocketId::new_v6())),
        ("Unix", of_unix()),
    ] {
        if let Err(error) = ask(&socket, request, &mut found) {
            tracing::debug!("cannot list listening {name} sockets: {error}");
        }
    }
    Ok(found)
}

fn tcp(family: u8, socket_id: SocketId) -> SockDiagMessage {
    SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::SKMEMINFO,
        states: inet::StateFlags::LISTEN,
        socket_id,
    })
}

fn of_unix() -> SockDiagMessage {
    SockDiagMessage::UnixRequest(UnixRequest {
        state_flags: unix::StateFlags::LISTEN,
        inode: 0,
        show_flags: ShowFlags::NAME | ShowFlags::RQLEN,
        cookie: [0; 8],
    })
}

/// Sends a request and reads all answers to it.
fn ask(socket: &Socket, request: SockDiagMessage, found: &mut Listening) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let size = socket.recv(&mut buffer.as_mut_slice(), 0)?;
        let answers = buffer.get(..size).unwrap_or_default();
        if take(answers, found)? {
            return Ok(());
        }
    }
}

/// Reads the answers of a datagram; true if the last is among them. Malformed answers are left out.
fn take(mut answers: &[u8], found: &mut Listening) -> io::Result<bool> {
    while !answers.is_empty() {
        let length = NetlinkBuffer::new_checked(answers)
            .map_err(io::Error::other)?
            .length();
        match NetlinkMessage::<SockDiagMessage>::deserialize(answers).map(|m| m.payload) {
            Ok(NetlinkPayload::Done(_)) => return Ok(true),
            Ok(NetlinkPayload::Error(error)) => return Err(error.to_io()),
            Ok(NetlinkPayload::InnerMessage(message)) => found.extend(listener(message)),
            Ok(_) => {}
            Err(error) => tracing::debug!("malformed answer about a listening socket: {error}"),
        }
        // `NLMSG_ALIGN`; no message is shorter than its header, so this ends.
        let next = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .checked_next_multiple_of(4);
        answers = next
            .and_then(|next| answers.get(next..))
            .unwrap_or_default();
    }
    Ok(false)
}

fn listener(message: SockDiagMessage) -> Option<(u64, Listener)> {
    match message {
        SockDiagMessage::InetResponse(response) => Some(of_tcp(&response)),
        SockDiagMessage::UnixResponse(response) => unix_listener(&response),
        _ => None,
    }
}

fn of_tcp(response: &InetResponse) -> (u64, Listener) {
    let header = &response.header;
    let id = &header.socket_id;
    // `tcp_listendrop` counts in the listener (`include/net/tcp.h`): SYNs, and connections for
    // which the queue had no room.
    let drops = response.nlas.iter().find_map(|nla| match nla {
        inet::nlas::Nla::MemInfo(memory) => Some(u64::from(memory.drops)),
        _ => None,
    });
    let listener = Listener {
        address: SocketAddr::new(id.source_address, id.source_port).to_string(),
        // `sk_ack_backlog`, `sk_max_ack_backlog` (`net/ipv4/tcp_diag.c`, `tcp_diag_get_info`).
        backlog: header.recv_queue,
        limit: header.send_queue,
        drops,
    };
    (u64::from(header.inode), listener)
}

/// `None` for a socket without a name, to which no client can connect.
fn unix_listener(response: &UnixResponse) -> Option<(u64, Listener)> {
    // `udiag_rqueue`, `udiag_wqueue` (`net/unix/diag.c`, `sk_diag_show_rqlen`).
    let queue = response.nlas.iter().find_map(|nla| match nla {
        UnixNla::ReceiveQueueLength(waiting, limit) => Some((*waiting, *limit)),
        _ => None,
    });
    let (backlog, limit) = queue?;
    let name = match response.name()? {
        UnixDiagName::Pathname(path) => path.to_string_lossy().into_owned(),
        UnixDiagName::Abstract(name) => format!("@{}", String::from_utf8_lossy(name)),
    };
    let listener = Listener {
        address: format!("{UNIX_PREFIX}{name}"),
        backlog,
        limit,
        drops: None,
    };
    Some((u64::from(response.header.inode), listener))
}

#[cfg(test)]
#[path = "sock_diag_tests.rs"]
mod tests;
