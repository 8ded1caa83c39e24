//! TCP connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use netflume::model::netflow::{Phase, Role};

use crate::support::Watch;

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_short_connection_is_exact_to_the_byte() {
    let mut watch = Watch::start();
    println!("{}", watch.source.report());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let (a, b) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    client.write_all(&[1; 1000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    server.write_all(&[2; 2345]).unwrap();
    drop(server);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    drop(client);
    watch.collect();
    for state in &watch.connections {
        println!("{state:?}");
    }
    println!("{:?}", watch.ledger.entries());
    let last = *watch.about(a, b).last().unwrap();
    assert_eq!((last.phase, last.role), (Phase::Closed, Role::Client));
    assert_eq!((last.bytes_sent, last.bytes_received), (1000, 2345));
    assert_eq!(last.owner.pid, std::process::id());
    let last = *watch.about(b, a).last().unwrap();
    assert_eq!((last.phase, last.role), (Phase::Closed, Role::Server));
    assert_eq!((last.bytes_sent, last.bytes_received), (2345, 1000));
    assert_eq!(last.owner.pid, std::process::id());
}
