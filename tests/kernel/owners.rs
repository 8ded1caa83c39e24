//! Who owns which end, and what is left out because it is our own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use netflume::receivers::ebpf::source::KernelOptions;
use netflume_core::model::netflow::{Phase, Role};
use netflume_tests::wait::until;

use crate::support::{Helper, Watch};

/// Helper: accepts connections one by one, sends back what comes until the end of it.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn serve() {
    if !Helper::is_me("owners::serve") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Helper::say(&listener.local_addr().unwrap().to_string());
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n]).unwrap();
        }
    }
}

fn server() -> (Helper, SocketAddr) {
    let mut helper = Helper::start("owners::serve");
    let address = helper.hear().parse().unwrap();
    (helper, address)
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn an_accepted_connection_belongs_to_the_process_that_accepted_it() {
    let mut watch = Watch::start();
    let (helper, to) = server();
    let mut client = TcpStream::connect(to).unwrap();
    let from = client.local_addr().unwrap();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    watch.collect();
    let (ours, theirs) = (watch.last(from, to), watch.last(to, from));
    assert_eq!(
        (ours.role, ours.owner.pid),
        (Role::Client, std::process::id())
    );
    assert_eq!(
        (theirs.role, theirs.owner.pid),
        (Role::Server, helper.pid()),
        "found by the iterator"
    );
    assert!(
        theirs.owner.comm.starts_with(&ours.owner.comm[..4]),
        "the same program: {theirs:?}"
    );
    // A second one that no iterator sees: the closing process tells.
    let mut short = TcpStream::connect(to).unwrap();
    let from = short.local_addr().unwrap();
    drop(client);
    short.write_all(b"hi").unwrap();
    short.read_exact(&mut [0; 2]).unwrap();
    drop(short);
    until("both ends to close", || {
        watch.drain();
        (!watch.about(to, from).is_empty() && !watch.about(from, to).is_empty()).then_some(())
    })
    .unwrap();
    assert_eq!(watch.last(from, to).owner.pid, std::process::id());
    assert_eq!(watch.last(to, from).owner.pid, helper.pid());
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_killed_process_is_still_named() {
    let mut watch = Watch::start();
    let (helper, to) = server();
    let mut client = TcpStream::connect(to).unwrap();
    let from = client.local_addr().unwrap();
    // Connected is not accepted: on a busy machine the kernel may not have made the other end yet.
    client.write_all(b"hi").unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    let pid = helper.pid();
    helper.kill();
    drop(client);
    let end = watch.closed(to, from);
    assert_eq!((end.phase, end.owner.pid), (Phase::Closed, pid));
}

/// Exports to a "Collector" (the helper) must not be seen, neither from our end nor from the Collector's.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn own_connections_and_their_other_end_are_never_told() {
    let (_helper, to) = server();
    let old = TcpStream::connect(to).unwrap();
    let mut watch = Watch::with(&KernelOptions::default());
    let mut ends = vec![old.local_addr().unwrap()];
    let mut streams = vec![old];
    for _ in 0..3 {
        // The helper serves one at a time: close the one before.
        let mut stream = streams.pop().unwrap();
        stream.write_all(b"export").unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
        watch.collect();
        drop(stream);
        let next = TcpStream::connect(to).unwrap();
        ends.push(next.local_addr().unwrap());
        streams.push(next);
        watch.collect();
    }
    drop(streams);
    // A connection of somebody else to the same server is told: proof that the others would have been.
    let mut other = Helper::start("owners::connect_and_close");
    other.tell(&to.to_string());
    let from: SocketAddr = other.hear().parse().unwrap();
    watch.closed(from, to);
    watch.closed(to, from);
    for end in ends {
        assert_eq!(watch.about(end, to), [], "our end");
        assert_eq!(watch.about(to, end), [], "the other end");
    }
    assert!(
        watch
            .listeners
            .iter()
            .all(|l| l.owner.pid != std::process::id())
    );
}

/// Helper: connects to the address that it is told, exchanges a few bytes, closes, and says from where.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn connect_and_close() {
    if !Helper::is_me("owners::connect_and_close") {
        return;
    }
    let to: SocketAddr = Helper::listen().parse().unwrap();
    let mut stream = TcpStream::connect(to).unwrap();
    let from = stream.local_addr().unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    drop(stream);
    Helper::say(&from.to_string());
    Helper::listen();
}
