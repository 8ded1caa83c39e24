//! UDP exchanges.

use std::io::IoSlice;
use std::mem::zeroed;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use netflume_core::model::netflow::{ConnectionState, Endpoint, Role, Transport};

use crate::support::Watch;

/// The newest word on the exchange of the socket bound to `local` with `peer`; a socket bound to all addresses has no local one.
pub(crate) fn last(watch: &Watch, local: SocketAddr, peer: SocketAddr) -> ConnectionState {
    let peer = Endpoint::from(peer);
    let found = watch
        .connections
        .iter()
        .rfind(|c| c.transport == Transport::Udp && c.local.port == local.port() && c.peer == peer);
    *found.unwrap_or_else(|| {
        panic!(
            "nothing about {local} → {peer:?} in {:#?}",
            watch.connections
        )
    })
}

fn counts(state: &ConnectionState) -> (u64, u64, u64, u64) {
    (
        state.bytes_sent,
        state.packets_sent,
        state.bytes_received,
        state.packets_received,
    )
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn connected_sockets_are_counted_to_the_datagram_and_byte() {
    let mut watch = Watch::start();
    println!("{}", watch.source.report());
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (a, b) = (
            UdpSocket::bind(address).unwrap(),
            UdpSocket::bind(address).unwrap(),
        );
        let (at_a, at_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        a.connect(at_b).unwrap();
        b.connect(at_a).unwrap();
        let mut buffer = [0; 2000];
        for size in [0, 1, 100, 1400] {
            a.send(&vec![7; size]).unwrap();
            assert_eq!(b.peek(&mut buffer).unwrap(), size);
            assert_eq!(b.recv(&mut buffer).unwrap(), size);
        }
        b.send(&[8; 33]).unwrap();
        assert_eq!(a.recv(&mut buffer).unwrap(), 33);
        watch.collect();
        let state = last(&watch, at_a, at_b);
        assert_eq!(counts(&state), (1501, 4, 33, 1), "{state:?}");
        assert_eq!(state.local, Endpoint::from(at_a));
        assert_eq!(state.owner.pid, std::process::id());
        let state = last(&watch, at_b, at_a);
        assert_eq!(counts(&state), (33, 1, 1501, 4), "{state:?}");
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn unconnected_sockets_are_counted_per_peer() {
    let mut watch = Watch::start();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let server = UdpSocket::bind(address).unwrap();
        let at_server = server.local_addr().unwrap();
        let clients: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind(address).unwrap()).collect();
        let mut buffer = [0; 2000];
        for (n, client) in clients.iter().enumerate() {
            for _ in 0..=n {
                client.send_to(&[1; 200], at_server).unwrap();
                let (_, from) = server.recv_from(&mut buffer).unwrap();
                server.send_to(&[2; 50], from).unwrap();
                client.recv_from(&mut buffer).unwrap();
            }
        }
        watch.collect();
        for (n, client) in clients.iter().enumerate() {
            let at_client = client.local_addr().unwrap();
            let calls = n as u64 + 1;
            let state = last(&watch, at_client, at_server);
            assert_eq!(
                counts(&state),
                (200 * calls, calls, 50 * calls, calls),
                "{state:?}"
            );
            let state = last(&watch, at_server, at_client);
            assert_eq!(
                counts(&state),
                (50 * calls, calls, 200 * calls, calls),
                "{state:?}"
            );
        }
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn the_end_whose_port_was_chosen_is_the_server() {
    let mut watch = Watch::start();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    // Chosen, not given by the kernel.
    let port = server.local_addr().unwrap().port();
    drop(server);
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .send_to(b"question", server.local_addr().unwrap())
        .unwrap();
    let mut buffer = [0; 100];
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to(b"answer", from).unwrap();
    client.recv_from(&mut buffer).unwrap();
    watch.collect();
    let (at_client, at_server) = (client.local_addr().unwrap(), server.local_addr().unwrap());
    assert_eq!(last(&watch, at_server, at_client).role, Role::Server);
    assert_eq!(last(&watch, at_client, at_server).role, Role::Client);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn ipv4_through_an_ipv6_socket_is_ipv4_and_counted_once() {
    let mut watch = Watch::start();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at_server = server.local_addr().unwrap();
    let client = UdpSocket::bind("[::]:0").unwrap();
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), at_server.port()));
    let mut buffer = [0; 100];
    client.send_to(&[1; 70], mapped).unwrap();
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to(&[2; 30], from).unwrap();
    client.recv_from(&mut buffer).unwrap();
    watch.collect();
    let state = last(&watch, client.local_addr().unwrap(), at_server);
    assert!(state.peer.ip().is_ipv4(), "{state:?}");
    assert_eq!(counts(&state), (70, 1, 30, 1), "{state:?}");
    let about: Vec<_> = watch
        .connections
        .iter()
        .filter(|c| c.local.port == client.local_addr().unwrap().port())
        .collect();
    assert_eq!(about.len(), 1, "{about:?}");
}

/// `sendmsg` with an address, as QUIC stacks and resolvers use it.
fn sendmsg(socket: &UdpSocket, payload: &[u8], to: SocketAddr) -> isize {
    let SocketAddr::V4(to) = to else {
        panic!("{to} is not IPv4");
    };
    let iov = IoSlice::new(payload);
    // SAFETY: plain data; all pointers live until the call returns.
    unsafe {
        let mut name: libc::sockaddr_in = zeroed();
        name.sin_family = libc::AF_INET as u16;
        name.sin_port = to.port().to_be();
        name.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
        let mut message: libc::msghdr = zeroed();
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        message.msg_iov = (&raw const iov).cast_mut().cast();
        message.msg_iovlen = 1;
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    }
}

/// Two datagrams to two peers in one `sendmmsg`.
pub(crate) fn sendmmsg(socket: &UdpSocket, payloads: [&[u8]; 2], to: [SocketAddr; 2]) -> i32 {
    let iovs = payloads.map(IoSlice::new);
    // SAFETY: plain data; all pointers live until the call returns.
    unsafe {
        let mut names: [libc::sockaddr_in; 2] = zeroed();
        let mut messages: [libc::mmsghdr; 2] = zeroed();
        for i in 0..2 {
            let SocketAddr::V4(to) = to[i] else {
                panic!("{} is not IPv4", to[i]);
            };
            names[i].sin_family = libc::AF_INET as u16;
            names[i].sin_port = to.port().to_be();
            names[i].sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
            messages[i].msg_hdr.msg_name = (&raw mut names[i]).cast();
            messages[i].msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            messages[i].msg_hdr.msg_iov = (&raw const iovs[i]).cast_mut().cast();
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), 2, 0)
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn every_way_to_send_names_its_peer() {
    let mut watch = Watch::start();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at_client = client.local_addr().unwrap();
    let servers = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let at = [0, 1].map(|n: usize| servers[n].local_addr().unwrap());
    assert_eq!(sendmsg(&client, &[1; 11], at[0]), 11);
    watch.collect();
    assert_eq!(last(&watch, at_client, at[0]).bytes_sent, 11);
    // Where the arguments of the call do not tell, the first ones have no peer, but are counted; then the hooks are there.
    assert_eq!(sendmmsg(&client, [&[1; 5], &[1; 7]], at), 2);
    watch.collect();
    watch.collect();
    assert_eq!(sendmmsg(&client, [&[1; 50], &[1; 70]], at), 2);
    watch.collect();
    let sum: u64 = {
        let mut newest = std::collections::BTreeMap::new();
        for c in watch
            .connections
            .iter()
            .filter(|c| c.local.port == at_client.port())
        {
            newest.insert(c.id, c.bytes_sent);
        }
        newest.values().sum()
    };
    assert_eq!(sum, 11 + 5 + 7 + 50 + 70);
    assert!([61, 66].contains(&last(&watch, at_client, at[0]).bytes_sent));
    assert!([70, 77].contains(&last(&watch, at_client, at[1]).bytes_sent));
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_new_socket_in_the_memory_of_an_old_one_is_a_new_exchange() {
    let mut watch = Watch::start();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at_server = server.local_addr().unwrap();
    let rounds = 300;
    for _ in 0..rounds {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(at_server).unwrap();
        client.send(&[1; 10]).unwrap();
    }
    watch.collect();
    let mut newest = std::collections::BTreeMap::new();
    for c in watch
        .connections
        .iter()
        .filter(|c| c.peer == Endpoint::from(at_server))
    {
        newest.insert(c.id, (c.bytes_sent, c.packets_sent));
    }
    let (bytes, packets) = newest
        .values()
        .fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
    assert_eq!((bytes, packets), (rounds * 10, rounds));
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn threads_that_share_a_socket_lose_nothing() {
    let mut watch = Watch::start();
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let at_socket = socket.local_addr().unwrap();
    let peers: Vec<UdpSocket> = (0..4)
        .map(|_| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for peer in &peers {
            let socket = &socket;
            scope.spawn(move || {
                let to = peer.local_addr().unwrap();
                for _ in 0..1000 {
                    socket.send_to(&[1; 3], to).unwrap();
                }
            });
        }
    });
    watch.collect();
    for peer in &peers {
        let state = last(&watch, at_socket, peer.local_addr().unwrap());
        assert_eq!(
            (state.bytes_sent, state.packets_sent),
            (3000, 1000),
            "{state:?}"
        );
    }
}
