//! TCP connections: every byte, both sides, both families, however short or old they are.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use netflume_core::model::netflow::{ConnectionState, Phase, Role};
use netflume_tests::wait::until;

use crate::support::{
    Pair, Watch, connected, deafen, in_new_namespace, netlink, own_namespace, pair, sockets,
    undeafen,
};

/// The end as the client's and as the server's socket told it, for what the client sent and received.
fn assert_both_ends(watch: &mut Watch, a: SocketAddr, b: SocketAddr, sent: u64, received: u64) {
    let client = watch.closed(a, b);
    assert_eq!(
        (client.bytes_sent, client.bytes_received),
        (sent, received),
        "{client:?}"
    );
    let server = watch.closed(b, a);
    assert_eq!(
        (server.bytes_sent, server.bytes_received),
        (received, sent),
        "{server:?}"
    );
    for (end, role) in [(client, Role::Client), (server, Role::Server)] {
        assert_eq!(
            (end.phase, end.role, end.error),
            (Phase::Closed, role, None),
            "{end:?}"
        );
        assert_eq!(end.owner.pid, std::process::id(), "{end:?}");
        assert!(
            end.opened_boot_time_ns > 0 && end.opened_boot_time_ns <= end.boot_time_ns,
            "{end:?}"
        );
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connection_is_exact_to_the_byte_over_ipv4() {
    let mut watch = Watch::start();
    let mut pair = pair("127.0.0.1:0");
    pair.exchange(1_000, 3_456_789);
    let (a, b) = (pair.a, pair.b);
    pair.close();
    assert_both_ends(&mut watch, a, b, 1_000, 3_456_789);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connection_is_exact_to_the_byte_over_ipv6() {
    let mut watch = Watch::start();
    let mut pair = pair("[::1]:0");
    pair.exchange(12_345, 1);
    let (a, b) = (pair.a, pair.b);
    pair.close();
    assert_both_ends(&mut watch, a, b, 12_345, 1);
    assert!(watch.last(a, b).local.ip().is_ipv6());
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn ipv4_through_an_ipv6_listener_is_shown_as_ipv4() {
    let mut watch = Watch::start();
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut pair = connected(&listener, (Ipv4Addr::LOCALHOST, port).into());
    pair.exchange(11, 22);
    let (a, b) = (pair.a, pair.b);
    pair.close();
    assert_both_ends(&mut watch, a, b, 11, 22);
    assert!(watch.last(b, a).local.ip().is_ipv4());
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn connections_of_a_millisecond_are_all_exact() {
    let mut watch = Watch::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let mut expected = Vec::new();
    for i in 0..200_u64 {
        let mut pair = connected(&listener, to);
        pair.client
            .write_all(&vec![1; usize::try_from(i * 7).unwrap()])
            .unwrap();
        pair.server
            .write_all(&vec![1; usize::try_from(i * 3).unwrap()])
            .unwrap();
        expected.push((pair.a, pair.b, i * 7, i * 3));
        pair.close();
        watch.drain();
    }
    for (a, b, sent, received) in expected {
        assert_both_ends(&mut watch, a, b, sent, received);
        assert_eq!(
            watch.about(a, b).len(),
            1,
            "one record is all that a short connection costs"
        );
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn open_connections_are_told_at_every_interval_with_their_running_totals() {
    let mut watch = Watch::start();
    let mut pair = pair("127.0.0.1:0");
    for round in 1..=3 {
        pair.exchange(100, 200);
        watch.collect();
        let all = watch.about(pair.a, pair.b);
        assert_eq!(all.len(), round, "once an interval: {all:?}");
        let ConnectionState {
            phase,
            role,
            bytes_sent,
            bytes_received,
            rtt_us,
            ..
        } = all[round - 1];
        let n = round as u64;
        assert_eq!(
            (phase, role, bytes_sent, bytes_received),
            (Phase::Open, Role::Client, 100 * n, 200 * n)
        );
        assert!(rtt_us > 0);
        assert_eq!(watch.last(pair.b, pair.a).bytes_sent, 200 * n);
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn other_network_namespaces_are_seen() {
    let mut watch = Watch::start();
    let (here, there) = (
        own_namespace(),
        in_new_namespace(|| {
            let mut pair = pair("127.0.0.1:0");
            pair.exchange(77, 88);
            watch.collect();
            let open = watch.last(pair.a, pair.b);
            assert_eq!(
                (open.phase, open.bytes_sent, open.netns),
                (Phase::Open, 77, own_namespace())
            );
            let (a, b) = (pair.a, pair.b);
            pair.close();
            assert_both_ends(&mut watch, a, b, 77, 88);
            assert_eq!(watch.last(b, a).netns, own_namespace());
            own_namespace()
        }),
    );
    assert_ne!(here, there);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn segments_sent_again_are_told_and_do_not_count_as_bytes() {
    let mut watch = Watch::start();
    let mut pair = pair("127.0.0.1:0");
    pair.exchange(10, 10);
    deafen(&pair.server);
    pair.client.write_all(&[5; 3000]).unwrap();
    let again = until("a retransmission", || {
        watch.collect();
        Some(watch.last(pair.a, pair.b).retransmits).filter(|&n| n > 1)
    });
    undeafen(&pair.server);
    pair.server.read_exact(&mut [0; 3000]).unwrap();
    let (a, b) = (pair.a, pair.b);
    pair.close();
    let end = watch.closed(a, b);
    assert!(end.retransmits >= again.unwrap());
    assert_eq!((end.bytes_sent, end.bytes_received), (3010, 10));
    assert_eq!(watch.closed(b, a).bytes_received, 3010);
}

/// The own queueing discipline refuses segments; TCP sends them again, but the kernel counts them as sent twice.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn segments_that_never_left_do_not_count_as_bytes() {
    in_new_namespace(|| {
        let mut watch = Watch::start();
        let mut pair = pair("127.0.0.1:0");
        pair.exchange(10, 20);
        // Acknowledgements pass, data does not.
        netlink::limit_loopback(200);
        pair.client.write_all(&[5; 3000]).unwrap();
        until("the kernel to count bytes twice", || {
            let info = sockets::tcp_info(&pair.client);
            (info.tcpi_bytes_sent - info.tcpi_bytes_retrans > 3010).then_some(())
        })
        .unwrap();
        watch.collect();
        let open = watch.last(pair.a, pair.b);
        assert!(open.bytes_sent <= 3010, "{open:?}");
        netlink::limit_loopback(1_000_000);
        pair.server.read_exact(&mut [0; 3000]).unwrap();
        watch.collect();
        assert_eq!(watch.last(pair.a, pair.b).bytes_sent, 3010);
        let (a, b) = (pair.a, pair.b);
        pair.close();
        assert_both_ends(&mut watch, a, b, 3010, 20);
    });
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connection_with_several_descriptors_is_told_once_an_interval() {
    let mut watch = Watch::start();
    let pair = pair("127.0.0.1:0");
    let copies: Vec<TcpStream> = (0..5).map(|_| pair.client.try_clone().unwrap()).collect();
    watch.collect();
    assert_eq!(watch.about(pair.a, pair.b).len(), 1);
    drop(copies);
    watch.collect();
    assert_eq!(watch.about(pair.a, pair.b).len(), 2);
    assert_eq!(watch.last(pair.a, pair.b).phase, Phase::Open);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn unread_and_unsent_data_do_not_spoil_the_count() {
    let mut watch = Watch::start();
    let Pair {
        mut client,
        server,
        a,
        b,
    } = pair("127.0.0.1:0");
    client.write_all(&[1; 4321]).unwrap();
    until("the bytes to arrive", || {
        watch.collect();
        (watch.last(b, a).bytes_received == 4321).then_some(())
    })
    .unwrap();
    // Closing with unread data resets the connection; the bytes did arrive all the same.
    drop(server);
    assert_eq!(watch.closed(b, a).bytes_received, 4321);
    let end = watch.closed(a, b);
    assert_eq!(end.bytes_sent, 4321);
    drop(client);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn listeners_are_told_when_they_start_and_when_they_end() {
    let mut watch = Watch::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap().into();
    watch.drain();
    drop(listener);
    watch.drain();
    let told: Vec<_> = watch
        .listeners
        .iter()
        .filter(|l| l.local == local)
        .collect();
    assert_eq!(
        told.iter().map(|l| l.listening).collect::<Vec<_>>(),
        [true, false]
    );
    assert!(
        told.iter()
            .all(|l| l.owner.pid == std::process::id() && l.netns == own_namespace()),
        "{told:?}"
    );
}
