//! Multipath TCP: one connection of a process, whatever the kernel makes of it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use netflume_core::model::netflow::{ConnectionState, Phase, Role};
use netflume_tests::wait::until;

use crate::support::{Pair, Watch, in_new_namespace, netlink, sockets};

const IPPROTO_MPTCP: i32 = 262;

/// Not every kernel is built with it.
fn is_there() -> bool {
    let there = std::path::Path::new("/proc/sys/net/mptcp/enabled").exists();
    if !there {
        println!("this kernel has no Multipath TCP");
    }
    there
}

fn listener() -> TcpListener {
    let socket = sockets::stream(libc::AF_INET, IPPROTO_MPTCP);
    sockets::bind(&socket, "127.0.0.1:0".parse().unwrap()).unwrap();
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::listen(socket.as_raw_fd(), 16) }, 0);
    TcpListener::from(OwnedFd::from(socket))
}

/// Both ends speak Multipath TCP. Later subflows come in at the listener.
fn pair(listener: &TcpListener) -> Pair {
    let b = listener.local_addr().unwrap();
    let client = sockets::stream(libc::AF_INET, IPPROTO_MPTCP);
    sockets::connect(&client, b).unwrap();
    let (server, a) = listener.accept().unwrap();
    for socket in [&client, &server] {
        assert_eq!(sockets::protocol(socket), IPPROTO_MPTCP);
    }
    Pair {
        client,
        server,
        a,
        b,
    }
}

fn assert_open(state: &ConnectionState, role: Role, sent: u64, received: u64) {
    assert_eq!(
        (state.phase, state.role, state.owner.pid),
        (Phase::Open, role, std::process::id()),
        "{state:?}"
    );
    assert_eq!(
        (state.bytes_sent, state.bytes_received),
        (sent, received),
        "{state:?}"
    );
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn both_ends_are_reported_each_interval_with_their_process() {
    if !is_there() {
        return;
    }
    let mut watch = Watch::start();
    let mut pair = pair(&listener());
    let (a, b) = (pair.a, pair.b);
    for n in 1..4 {
        pair.exchange(10, 20);
        watch.collect();
        let all = n as u64;
        for (local, peer, role, sent, received) in
            [(a, b, Role::Client, 10, 20), (b, a, Role::Server, 20, 10)]
        {
            let reported = watch.about(local, peer);
            assert_eq!(reported.len(), n, "one record an interval: {reported:?}");
            assert_open(&reported[n - 1], role, all * sent, all * received);
        }
    }
    pair.close();
    for (local, peer, sent) in [(a, b, 30), (b, a, 60)] {
        let end = watch.closed(local, peer);
        assert_eq!(
            (end.phase, end.owner.pid, end.bytes_sent),
            (Phase::Closed, std::process::id(), sent),
            "{end:?}"
        );
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn both_ends_that_are_older_than_the_program_are_found_with_their_process() {
    if !is_there() {
        return;
    }
    let mut pair = pair(&listener());
    pair.exchange(10, 20);
    let mut watch = Watch::start();
    watch.collect();
    assert_open(&watch.last(pair.a, pair.b), Role::Client, 10, 20);
    assert_open(&watch.last(pair.b, pair.a), Role::Server, 20, 10);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_plain_client_of_an_older_listener_comes_in() {
    if !is_there() {
        return;
    }
    let listener = listener();
    let to = listener.local_addr().unwrap();
    let mut watch = Watch::start();
    let client = TcpStream::connect(to).unwrap();
    let (server, from) = listener.accept().unwrap();
    let mut pair = Pair {
        client,
        server,
        a: from,
        b: to,
    };
    pair.exchange(1, 2);
    watch.collect();
    assert_open(&watch.last(to, from), Role::Server, 2, 1);
    assert_open(&watch.last(from, to), Role::Client, 1, 2);
    let reported = watch.listeners.iter().find(|l| l.local == to.into());
    assert_eq!(reported.unwrap().owner.pid, std::process::id());
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_client_of_a_plain_server_is_one_connection() {
    if !is_there() {
        return;
    }
    let mut watch = Watch::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let b = listener.local_addr().unwrap();
    let client = sockets::stream(libc::AF_INET, IPPROTO_MPTCP);
    sockets::connect(&client, b).unwrap();
    let (server, a) = listener.accept().unwrap();
    let mut pair = Pair {
        client,
        server,
        a,
        b,
    };
    pair.exchange(10, 20);
    watch.collect();
    assert_open(&watch.last(a, b), Role::Client, 10, 20);
    pair.close();
    assert_eq!(watch.closed(a, b).owner.pid, std::process::id());
}

/// What is known last of each subflow of the connection; the first subflow first. The server's kernel may try one of its own, to
/// the client's port, where nothing listens: that one failed, and is left out.
fn subflows(watch: &Watch, local: SocketAddr, peer: SocketAddr) -> Vec<ConnectionState> {
    let mut last: Vec<ConnectionState> = Vec::new();
    for state in watch.about(local, peer) {
        match last.iter_mut().find(|known| known.id == state.id) {
            Some(known) => *known = state,
            None => last.push(state),
        }
    }
    last.retain(|state| state.phase != Phase::Failed);
    last.sort_by_key(|state| state.part);
    last
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn subflows_are_parts_of_one_connection() {
    if !is_there() {
        return;
    }
    in_new_namespace(|| {
        netlink::allow_subflow_from([127, 0, 0, 2]);
        let mut watch = Watch::start();
        let listener = listener();
        let mut pair = pair(&listener);
        let (a, b) = (pair.a, pair.b);
        pair.exchange(1000, 2000);
        // The kernel makes the second when it gets to it.
        until("both subflows", || {
            watch.collect();
            let both = |(local, peer)| subflows(&watch, local, peer).len() == 2;
            [(a, b), (b, a)].into_iter().all(both).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}; reported {:?}", watch.connections));
        pair.exchange(100, 200);
        watch.collect();
        for (local, peer, sent, received) in [(a, b, 1100, 2200), (b, a, 2200, 1100)] {
            let all = subflows(&watch, local, peer);
            let [first, second] = &all[..] else {
                panic!("{all:?}");
            };
            assert_eq!((first.part, second.part), (false, true), "{all:?}");
            for state in [first, second] {
                assert_eq!(state.owner.pid, std::process::id(), "{all:?}");
            }
            // What is sent again by another subflow, which is rare, counts again; nothing else does.
            let of = |sent: fn(&ConnectionState) -> u64| all.iter().map(sent).sum::<u64>();
            for (reported, exact) in [
                (of(|state| state.bytes_sent), sent),
                (of(|state| state.bytes_received), received),
            ] {
                assert!((exact..exact * 3 / 2).contains(&reported), "{all:?}");
            }
        }
        pair.close();
        watch.closed(a, b);
        watch.closed(b, a);
    });
}
