//! Against real sockets of this process; needs no privilege.

use super::*;
use nix::sys::socket::{Backlog, listen};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};

fn inode(socket: &impl std::os::fd::AsFd) -> u64 {
    let fd = socket.as_fd().as_raw_fd();
    let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    let text = link.to_str().unwrap();
    let inode = text.strip_prefix("socket:[").unwrap();
    inode.strip_suffix(']').unwrap().parse().unwrap()
}

const LIMIT: u32 = 100;

/// `listen(2)` again, so that so many connections may wait.
fn limit(socket: &impl std::os::fd::AsFd, limit: u32) {
    let backlog = Backlog::new(i32::try_from(limit).unwrap()).unwrap();
    listen(socket, backlog).unwrap();
}

#[test]
fn connections_that_wait_at_a_tcp_listener_are_counted_until_they_are_accepted() {
    for (address, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]")] {
        let Ok(listener) = TcpListener::bind(address) else {
            continue; // no IPv6 here
        };
        limit(&listener, LIMIT);
        let at = listener.local_addr().unwrap();
        let mut waiting: Vec<_> = (0..5).map(|_| TcpStream::connect(at).unwrap()).collect();
        let read = || listening().unwrap().remove(&inode(&listener)).unwrap();
        let expected = Listener {
            address: format!("{host}:{}", at.port()),
            backlog: 5,
            limit: LIMIT,
            drops: Some(0),
        };
        assert_eq!(read(), expected);
        for backlog in (0..5).rev() {
            let accepted = listener.accept().unwrap();
            assert_eq!(read().backlog, backlog);
            drop((accepted, waiting.pop()));
        }
    }
}

#[test]
fn what_a_tcp_listener_has_no_room_for_is_a_drop() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    limit(&listener, 1);
    let at = listener.local_addr().unwrap();
    let read = || listening().unwrap().remove(&inode(&listener)).unwrap();
    let within = std::time::Duration::from_millis(200);
    let connected: Vec<_> = (0..4)
        .map(|_| TcpStream::connect_timeout(&at, within))
        .collect();
    let found = read();
    // The kernel lets in one more than it was asked for.
    assert_eq!((found.backlog, found.limit), (2, 1), "{found:?}");
    assert!(found.drops >= Some(1), "{found:?}");
    drop(connected);
}

#[test]
fn connections_that_wait_at_a_unix_listener_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let name = format!("observer-test-{}", std::process::id());
    let by_path = UnixListener::bind(&path).unwrap();
    let abstract_ = UnixAddr::from_abstract_name(&name).unwrap();
    let by_name = UnixListener::bind_addr(&abstract_).unwrap();
    limit(&by_path, LIMIT);
    limit(&by_name, LIMIT);
    let waiting: Vec<_> = (0..3)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    let mut found = listening().unwrap();
    let listener = |address, backlog| Listener {
        address,
        backlog,
        limit: LIMIT,
        drops: None,
    };
    let by_path = found.remove(&inode(&by_path));
    let by_name = found.remove(&inode(&by_name));
    assert_eq!(
        by_path,
        Some(listener(format!("unix:{}", path.display()), 3))
    );
    assert_eq!(by_name, Some(listener(format!("unix:@{name}"), 0)));
    drop(waiting);
}

#[test]
fn answers_that_are_cut_or_garbage_are_no_panic() {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), of_unix().into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    for end in 0..bytes.len() {
        let _ = take(&bytes[..end], &mut Listening::new());
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut garbage = bytes.clone();
            garbage[at] = value;
            let _ = take(&garbage, &mut Listening::new());
        }
    }
}
