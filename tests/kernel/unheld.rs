//! Sockets that no descriptor leads to: they are open all the same.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use netflume::receivers::ebpf::source::{KernelOptions, Scope};
use netflume_core::model::netflow::{Phase, Role};

use crate::support::uring::Ring;
use crate::support::{Pair, Watch, connected, in_new_namespace, options, pair};

/// A connection whose client is in the table of a ring alone.
fn held_by_a_ring() -> (Ring, std::net::TcpStream, SocketAddr, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let Pair {
        client,
        server,
        a,
        b,
    } = connected(&listener, listener.local_addr().unwrap());
    let ring = Ring::new();
    ring.register(&[&client]);
    (ring, server, a, b)
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connection_that_only_a_ring_holds_is_reported_each_interval() {
    let mut watch = Watch::start();
    let (ring, mut server, a, b) = held_by_a_ring();
    for n in 1..4 {
        server.write_all(&[1; 100]).unwrap();
        watch.collect();
        let reported = watch.about(a, b);
        assert_eq!(reported.len(), n, "one record an interval: {reported:?}");
        let state = reported[n - 1];
        assert_eq!(
            (state.phase, state.role, state.owner.pid),
            (Phase::Open, Role::Client, std::process::id()),
            "{state:?}"
        );
        assert_eq!(state.bytes_received, 100 * n as u64);
    }
    // Ends with the ring: reset, since nothing was read.
    drop(ring);
    server.read(&mut [0]).unwrap_err();
    assert_eq!(watch.closed(a, b).bytes_received, 300);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connection_that_only_a_ring_held_before_the_program_started_is_found() {
    let (_ring, mut server, a, b) = held_by_a_ring();
    let mut watch = Watch::start();
    for _ in 0..3 {
        server.write_all(&[1; 100]).unwrap();
        watch.collect();
    }
    let state = watch.last(a, b);
    assert_eq!(
        (state.phase, state.owner.pid),
        (Phase::Open, 0),
        "{state:?}"
    );
    assert_eq!(state.bytes_received, 300);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn an_accepted_connection_that_no_descriptor_leads_to_has_its_creator() {
    let mut watch = Watch::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let Pair {
        mut client,
        server,
        a,
        b,
    } = connected(&listener, listener.local_addr().unwrap());
    let ring = Ring::new();
    ring.register(&[&server]);
    drop(server);
    client.write_all(&[1; 50]).unwrap();
    // Before the second look it might be on its way to the process that accepts it.
    watch.collect();
    watch.collect();
    let state = watch.last(b, a);
    assert_eq!(
        (state.phase, state.role, state.bytes_received),
        (Phase::Open, Role::Server, 50),
        "{state:?}"
    );
    drop(ring);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn connections_that_wait_to_be_accepted_are_left_to_who_accepts_them() {
    let mut watch = Watch::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let client = std::net::TcpStream::connect(to).unwrap();
    let from = client.local_addr().unwrap();
    for _ in 0..3 {
        watch.collect();
    }
    assert_eq!(watch.about(to, from), []);
    let (_server, _) = listener.accept().unwrap();
    watch.collect();
    assert_eq!(watch.last(to, from).owner.pid, std::process::id());
}

/// Of the calling thread's network namespace alone, where nothing but the test comes and goes.
fn alone(max_connections: u32) -> Watch {
    Watch::with(&KernelOptions {
        scope: Scope::Pod,
        max_connections,
        ..options()
    })
}

/// Whether the next pass asks for connections that no descriptor led to.
fn looks_again(watch: &mut Watch) -> bool {
    let before = watch.source.second_looks();
    watch.collect();
    watch.source.second_looks() != before
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn only_a_connection_that_no_descriptor_leads_to_costs_a_second_look() {
    in_new_namespace(|| {
        let _older = pair("127.0.0.1:0");
        let mut watch = alone(1024);
        let held = pair("127.0.0.1:0");
        for _ in 0..3 {
            assert!(!looks_again(&mut watch));
        }
        let (ring, server, a, b) = held_by_a_ring();
        for n in 1..4 {
            assert!(looks_again(&mut watch));
            assert_eq!(watch.about(a, b).len(), n);
        }
        drop((ring, server));
        watch.closed(a, b);
        watch.closed(b, a);
        assert!(!looks_again(&mut watch));
        assert_eq!(watch.last(held.a, held.b).phase, Phase::Open);
    });
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn what_the_full_map_refused_hides_no_connection_later() {
    in_new_namespace(|| {
        let mut watch = alone(2);
        let pairs: Vec<Pair> = (0..3).map(|_| pair("127.0.0.1:0")).collect();
        watch.collect();
        for pair in pairs {
            let (a, b) = (pair.a, pair.b);
            pair.close();
            watch.closed(a, b);
            watch.closed(b, a);
        }
        assert!(!looks_again(&mut watch));
        let (_ring, _server, a, b) = held_by_a_ring();
        assert!(looks_again(&mut watch));
        assert_eq!(watch.about(a, b).len(), 1);
    });
}
