//! Every way through SYN_RECV: TCP Fast Open, where data goes both ways before the handshake is over, and both ends that connect.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use netflume_core::model::netflow::{ConnectionState, Phase, Role};
use netflume_tests::wait::until;

use crate::support::sockets::{self, begin_connect, bound, fast_open};
use crate::support::{Watch, deafen, in_new_namespace, set_option, undeafen};

/// Fast Open in both roles, without cookies, for every listener (Documentation/networking/ip-sysctl.rst).
fn allow_fast_open() {
    let settings = 0x1 | 0x2 | 0x4 | 0x200 | 0x400;
    std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", settings.to_string()).unwrap();
}

/// A client whose SYN carries `data`, and what the server accepted: the client hears nothing, so that the handshake does not end.
fn half_open(data: &[u8]) -> (TcpStream, TcpStream, SocketAddr, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let client = sockets::tcp(to);
    deafen(&client);
    client.set_nonblocking(true).unwrap();
    fast_open(&client, to, data);
    let (mut server, from) = listener.accept().unwrap();
    server.read_exact(&mut vec![0; data.len()]).unwrap();
    (client, server, from, to)
}

fn assert_whole(state: &ConnectionState, role: Role, sent: u64, received: u64) {
    assert_eq!(
        (
            state.phase,
            state.role,
            state.bytes_sent,
            state.bytes_received
        ),
        (Phase::Closed, role, sent, received),
        "{state:?}"
    );
    assert!(state.opened_boot_time_ns > 0, "older than us? {state:?}");
    assert_eq!(state.owner.pid, std::process::id(), "{state:?}");
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn an_answer_and_a_close_before_the_handshake_is_over_are_exact() {
    in_new_namespace(|| {
        allow_fast_open();
        let mut watch = Watch::start();
        let (mut client, mut server, a, b) = half_open(&[1; 700]);
        watch.collect();
        let open = watch.last(b, a);
        assert_eq!(
            (open.phase, open.role, open.bytes_received),
            (Phase::Open, Role::Server, 700),
            "{open:?}"
        );
        assert!(open.opened_boot_time_ns > 0, "{open:?}");
        server.write_all(&[2; 900]).unwrap();
        drop(server);
        undeafen(&client);
        client.set_nonblocking(false).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.len(), 900);
        drop(client);
        assert_whole(&watch.closed(a, b), Role::Client, 700, 900);
        assert_whole(&watch.closed(b, a), Role::Server, 900, 700);
        let opened = watch
            .about(b, a)
            .iter()
            .map(|c| c.opened_boot_time_ns)
            .max();
        assert_eq!(opened, Some(open.opened_boot_time_ns), "opened once");
    });
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_server_that_resets_before_the_handshake_is_over_has_its_bytes() {
    in_new_namespace(|| {
        allow_fast_open();
        let mut watch = Watch::start();
        let (client, server, a, b) = half_open(&[1; 321]);
        let at_once = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        set_option(&server, libc::SOL_SOCKET, libc::SO_LINGER, &at_once);
        drop(server);
        assert_whole(&watch.closed(b, a), Role::Server, 0, 321);
        drop(client);
    });
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_fast_open_that_goes_on_is_exact() {
    in_new_namespace(|| {
        allow_fast_open();
        let mut watch = Watch::start();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let b = listener.local_addr().unwrap();
        let mut client = sockets::tcp(b);
        fast_open(&client, b, &[1; 1000]);
        let (mut server, a) = listener.accept().unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        client.write_all(&[3; 234]).unwrap();
        server.read_exact(&mut [0; 234]).unwrap();
        server.write_all(&[4; 5]).unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        drop(client);
        server.read_to_end(&mut Vec::new()).unwrap();
        drop(server);
        assert_whole(&watch.closed(a, b), Role::Client, 1234, 5);
        assert_whole(&watch.closed(b, a), Role::Server, 5, 1234);
    });
}

/// Two sockets that each connect to the other's port. The first hears nothing until the second has begun.
fn crossing() -> (TcpStream, TcpStream, SocketAddr, SocketAddr) {
    let [(first, a), (second, b)] = [(); 2].map(|()| bound("127.0.0.1:0"));
    deafen(&first);
    begin_connect(&first, b);
    begin_connect(&second, a);
    (first, second, a, b)
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn both_ends_that_connect_have_one_connection_of_two_clients() {
    let mut watch = Watch::start();
    let (mut first, mut second, a, b) = crossing();
    undeafen(&first);
    for (socket, peer) in [(&first, b), (&second, a)] {
        until("the connection", || {
            sockets::is_connected(socket).then_some(())
        })
        .unwrap();
        assert_eq!(socket.peer_addr().unwrap(), peer);
        socket.set_nonblocking(false).unwrap();
    }
    first.write_all(&[1; 11]).unwrap();
    second.read_exact(&mut [0; 11]).unwrap();
    second.write_all(&[1; 22]).unwrap();
    first.read_exact(&mut [0; 22]).unwrap();
    drop(first);
    second.read_to_end(&mut Vec::new()).unwrap();
    drop(second);
    assert_whole(&watch.closed(a, b), Role::Client, 11, 22);
    assert_whole(&watch.closed(b, a), Role::Client, 22, 11);
}
