//! Connects that find no way: however they are made, whatever the socket did before, each is reported with its own reason.

use std::io::Error;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use netflume::receivers::ebpf::source::{Connects, KernelOptions};
use netflume_core::model::netflow::{ConnectError, Endpoint, Phase};

use crate::failures::{assert_failed, nobody};
use crate::support::sockets::{bound, connect, tcp, try_fast_open};
use crate::support::uring::Ring;
use crate::support::{Watch, in_new_namespace, netlink, options};

/// One watch after the other, for each way in which the programs may notice them; where the kernel has but one, twice the same.
fn watches() -> impl Iterator<Item = Watch> {
    [Connects::Auto, Connects::Attempts]
        .into_iter()
        .map(|connects| {
            Watch::with(&KernelOptions {
                connects,
                ..options()
            })
        })
}

fn assert_errno(result: Result<(), Error>, errno: i32) {
    let error = result.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
}

/// Attempts of the socket are reported as failed for this reason: once each, and nothing else is.
fn assert_told(watch: &mut Watch, socket: TcpStream, peer: SocketAddr, error: ConnectError) {
    assert_failed(&watch.failure(peer), error);
    drop(socket);
    assert_failed(&watch.failure(peer), error);
}

/// Addresses without a route in a new namespace.
const NOWHERE: [&str; 2] = ["192.0.2.7:4711", "[2001:db8::7]:4711"];

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_socket_that_was_refused_before_finds_no_way() {
    for mut watch in watches() {
        for (host, peer) in ["127.0.0.1", "::1"].into_iter().zip(NOWHERE) {
            in_new_namespace(|| {
                let (refuser, peer) = (nobody(host), peer.parse().unwrap());
                let socket = tcp(peer);
                assert_errno(connect(&socket, refuser), libc::ECONNREFUSED);
                assert_errno(connect(&socket, peer), libc::ENETUNREACH);
                assert_failed(&watch.failure(refuser), ConnectError::Refused);
                assert_told(&mut watch, socket, peer, ConnectError::Unreachable);
            });
        }
        watch.connections.clear();
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_socket_that_gave_up_its_connection_finds_no_way() {
    for mut watch in watches() {
        in_new_namespace(|| {
            let peer = NOWHERE[0].parse().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            disconnect(&socket);
            assert_errno(connect(&socket, peer), libc::ENETUNREACH);
            assert_told(&mut watch, socket, peer, ConnectError::Unreachable);
        });
    }
}

/// Dissolves the connection: a connect to nobody (`man 2 connect`).
fn disconnect(socket: &TcpStream) {
    // SAFETY: all of it may be zero.
    let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    let length = libc::socklen_t::try_from(size_of_val(&nobody)).unwrap();
    // SAFETY: a valid address of this length.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, length) };
    assert_eq!(result, 0, "{}", Error::last_os_error());
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn data_that_is_to_open_the_connection_finds_no_way() {
    for mut watch in watches() {
        for peer in NOWHERE {
            in_new_namespace(|| {
                let peer = peer.parse().unwrap();
                let socket = tcp(peer);
                let sent = try_fast_open(&socket, peer, b"data").map(drop);
                assert_errno(sent, libc::ENETUNREACH);
                assert_told(&mut watch, socket, peer, ConnectError::Unreachable);
            });
        }
        watch.connections.clear();
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connect_by_io_uring_finds_no_way() {
    for mut watch in watches() {
        for peer in NOWHERE {
            in_new_namespace(|| {
                let peer = peer.parse().unwrap();
                let socket = tcp(peer);
                assert_errno(Ring::new().connect(&socket, peer), libc::ENETUNREACH);
                assert_told(&mut watch, socket, peer, ConnectError::Unreachable);
            });
        }
        watch.connections.clear();
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn routes_that_lead_nowhere_have_reasons_of_their_own() {
    let kinds = [
        (libc::RTN_BLACKHOLE, libc::EINVAL, ConnectError::Blackhole),
        (libc::RTN_PROHIBIT, libc::EACCES, ConnectError::Prohibited),
    ];
    for mut watch in watches() {
        for peer in NOWHERE {
            for (kind, errno, error) in kinds {
                in_new_namespace(|| {
                    let peer: SocketAddr = peer.parse().unwrap();
                    netlink::add_dead_route(kind, peer.ip());
                    let socket = tcp(peer);
                    assert_errno(connect(&socket, peer), errno);
                    assert_told(&mut watch, socket, peer, error);
                });
                watch.connections.clear();
            }
        }
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connect_without_a_free_port_has_a_reason_of_its_own() {
    for mut watch in watches() {
        in_new_namespace(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let peer = listener.local_addr().unwrap();
            let mut kept = Vec::new();
            let error = loop {
                let socket = tcp(peer);
                match connect(&socket, peer) {
                    Ok(()) => kept.push(socket),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "{error}");
            assert!(!kept.is_empty());
            assert_failed(&watch.failure(peer), ConnectError::AddressNotAvailable);
        });
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn each_attempt_of_one_socket_is_told() {
    for mut watch in watches() {
        in_new_namespace(|| {
            let (socket, _) = bound("127.0.0.1:0");
            let peers: [SocketAddr; 3] =
                ["192.0.2.7:1", "192.0.2.8:2", "192.0.2.9:3"].map(|peer| peer.parse().unwrap());
            for peer in peers {
                assert_errno(connect(&socket, peer), libc::ENETUNREACH);
            }
            drop(socket);
            for peer in peers {
                assert_failed(&watch.failure(peer), ConnectError::Unreachable);
            }
        });
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connect_that_finds_its_way_is_no_failure() {
    for mut watch in watches() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        let refuser = nobody("127.0.0.1");
        let socket = tcp(peer);
        in_new_namespace(|| {
            let lost = tcp(peer);
            let nowhere = NOWHERE[0].parse().unwrap();
            assert_errno(connect(&lost, nowhere), libc::ENETUNREACH);
        });
        assert_errno(connect(&socket, refuser), libc::ECONNREFUSED);
        connect(&socket, peer).unwrap();
        drop(socket);
        watch.failure(NOWHERE[0].parse().unwrap());
        let failed = |c: &&_| {
            let c: &netflume_core::model::netflow::ConnectionState = c;
            c.phase == Phase::Failed && c.peer == Endpoint::from(peer)
        };
        let failures: Vec<_> = watch.connections.iter().filter(failed).collect();
        assert!(failures.is_empty(), "{failures:?}");
    }
}
