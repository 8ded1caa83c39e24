//! Connections that are older than the program: which end is which, whose they are.

use std::net::TcpListener;
use std::os::fd::AsRawFd;

use netflume_core::model::netflow::{Phase, Role};

use crate::support::{Pair, Watch, connected, sockets};

#[test]
#[ignore = "needs root and a BTF kernel"]
fn connections_older_than_the_program_are_found_with_their_owner() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let mut old = connected(&listener, to);
    old.exchange(500, 600);
    let mut watch = Watch::start();
    watch.collect();
    for (local, peer, sent, role) in [
        (old.a, old.b, 500, Role::Client),
        (old.b, old.a, 600, Role::Server),
    ] {
        let state = watch.last(local, peer);
        assert_eq!(
            (state.opened_boot_time_ns, state.phase, state.bytes_sent),
            (0, Phase::Open, sent)
        );
        assert_eq!(state.owner.pid, std::process::id());
        assert_eq!(state.role, role, "read from the socket itself");
    }
    let listener = watch
        .listeners
        .iter()
        .find(|l| l.local == to.into())
        .unwrap();
    assert!(
        listener.listening && listener.owner.pid == std::process::id(),
        "{listener:?}"
    );
    old.exchange(1, 2);
    let (a, b) = (old.a, old.b);
    old.close();
    let end = watch.closed(a, b);
    assert_eq!(
        (end.bytes_sent, end.bytes_received, end.opened_boot_time_ns),
        (501, 602, 0)
    );
    assert_eq!(
        end.owner.pid,
        std::process::id(),
        "remembered since it was found"
    );
    assert_eq!(watch.closed(b, a).bytes_received, 501);
}

fn assert_roles(watch: &Watch, pair: &Pair) {
    let roles = [(pair.a, pair.b), (pair.b, pair.a)].map(|(a, b)| watch.last(a, b).role);
    assert_eq!(
        roles,
        [Role::Client, Role::Server],
        "{} → {}",
        pair.a,
        pair.b
    );
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn the_client_is_the_client_though_both_ports_are_listened_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let (client, from) = sockets::bound("127.0.0.1:0");
    sockets::connect(&client, to).unwrap();
    let (server, _) = listener.accept().unwrap();
    // A connection does not hold its port against a listener on all addresses of the other family's socket.
    let _second = TcpListener::bind(("::", from.port())).unwrap();
    let mut pair = Pair {
        client,
        server,
        a: from,
        b: to,
    };
    pair.exchange(1, 1);
    let mut watch = Watch::start();
    watch.collect();
    assert!(watch.listeners.iter().any(|l| l.local.port == from.port()));
    assert_roles(&watch, &pair);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn the_server_is_the_server_though_its_listener_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pair = connected(&listener, listener.local_addr().unwrap());
    drop(listener);
    pair.exchange(100, 0);
    let mut watch = Watch::start();
    watch.collect();
    assert_roles(&watch, &pair);
    pair.exchange(0, 7);
    let (a, b) = (pair.a, pair.b);
    pair.close();
    assert_eq!(watch.closed(b, a).role, Role::Server);
    let end = watch.closed(a, b);
    assert_eq!((end.bytes_sent, end.bytes_received), (100, 7));
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn an_end_that_nothing_tells_is_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // An accept queue of length zero holds one connection, and leaves no trace in it.
    // SAFETY: no pointers.
    let result = unsafe { libc::listen(listener.as_raw_fd(), 0) };
    assert_eq!(result, 0);
    let pair = connected(&listener, listener.local_addr().unwrap());
    let mut watch = Watch::start();
    watch.collect();
    assert_eq!(watch.last(pair.b, pair.a).role, Role::Unknown);
    assert_eq!(watch.last(pair.a, pair.b).role, Role::Client);
}
