//! Connections that fail or are torn down: why, by whom, to whom.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use netflume_core::model::netflow::{ConnectError, ConnectionState, Phase, Role};

use crate::support::{Pair, Watch, deafen, in_new_namespace, own_namespace, pair, set_option};

pub(crate) fn assert_failed(state: &ConnectionState, error: ConnectError) {
    assert_eq!(
        (state.phase, state.role, state.error),
        (Phase::Failed, Role::Client, Some(error)),
        "{state:?}"
    );
    assert_eq!(state.owner.pid, std::process::id(), "{state:?}");
    assert_eq!(
        (state.bytes_sent, state.bytes_received),
        (0, 0),
        "{state:?}"
    );
    assert_eq!(state.netns, own_namespace(), "{state:?}");
    assert!(state.opened_boot_time_ns > 0, "{state:?}");
}

/// An address on which nobody listens.
pub(crate) fn nobody(host: &str) -> SocketAddr {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_refused_connection_has_process_and_peer() {
    for host in ["127.0.0.1", "::1"] {
        let mut watch = Watch::start();
        let peer = nobody(host);
        assert_eq!(
            TcpStream::connect(peer).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert_failed(&watch.failure(peer), ConnectError::Refused);
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connection_that_nobody_answers_times_out() {
    let mut watch = Watch::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    deafen(&listener);
    let peer = listener.local_addr().unwrap();
    let error = connect(peer, |socket| {
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, &1_i32)
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let state = watch.failure(peer);
    assert_failed(&state, ConnectError::TimedOut);
    assert!(state.retransmits > 0, "the SYN was sent again: {state:?}");
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connection_without_a_route_is_unreachable() {
    let mut watch = Watch::start();
    for peer in ["192.0.2.7:4711", "[2001:db8::7]:4711"] {
        let peer: SocketAddr = peer.parse().unwrap();
        in_new_namespace(|| {
            let error = TcpStream::connect(peer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{error}");
            assert_failed(&watch.failure(peer), ConnectError::Unreachable);
        });
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connection_given_up_by_its_process_is_told_as_that() {
    let mut watch = Watch::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    deafen(&listener);
    let peer = listener.local_addr().unwrap();
    let error = connect(peer, |socket| {
        // SAFETY: a flag of a descriptor that we own.
        let result = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        assert_eq!(result, 0);
    })
    .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
    assert_failed(&watch.failure(peer), ConnectError::Other);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_reset_connection_keeps_its_bytes_and_says_so() {
    let mut watch = Watch::start();
    let mut pair = pair("127.0.0.1:0");
    pair.exchange(40, 50);
    let Pair {
        mut client,
        server,
        a,
        b,
    } = pair;
    set_option(
        &server,
        libc::SOL_SOCKET,
        libc::SO_LINGER,
        &libc::linger {
            l_onoff: 1,
            l_linger: 0,
        },
    );
    drop(server);
    assert_eq!(
        client.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    let state = watch.closed(a, b);
    assert_eq!(
        (state.phase, state.error),
        (Phase::Closed, Some(ConnectError::Reset))
    );
    assert_eq!((state.bytes_sent, state.bytes_received), (40, 50));
    assert_eq!(state.owner.pid, std::process::id());
    let state = watch.closed(b, a);
    assert_eq!(
        (state.error, state.role, state.bytes_sent),
        (None, Role::Server, 50),
        "this end did the resetting"
    );
}

/// A connect with options set before.
fn connect(peer: SocketAddr, prepare: impl FnOnce(&OwnedFd)) -> std::io::Result<()> {
    let SocketAddr::V4(peer) = peer else {
        panic!("IPv4 only");
    };
    // SAFETY: no pointers; the result is checked and owned by nobody else.
    let socket = unsafe {
        let descriptor = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(descriptor >= 0);
        OwnedFd::from_raw_fd(descriptor)
    };
    prepare(&socket);
    let address = libc::sockaddr_in {
        sin_family: 2,
        sin_port: peer.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(peer.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
    // SAFETY: a valid address of this length.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
