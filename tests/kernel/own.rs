//! Our own traffic is left out, and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use netflume::receivers::ebpf::source::KernelOptions;

use crate::owners::server;
use crate::support::{Helper, Watch, set_option, sockets};

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
    // A connection of somebody else to the same server is reported: proof that the others would have been.
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

/// Helper: connects from the port of the address that it is given to the address after it, exchanges a few bytes and closes.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn connect_from() {
    if !Helper::is_me("own::connect_from") {
        return;
    }
    let ends = Helper::listen();
    let (from, to) = ends.split_once(' ').unwrap();
    let (mut socket, _) = sockets::bound(from);
    sockets::connect(&socket, to.parse().unwrap()).unwrap();
    socket.write_all(b"x").unwrap();
    socket.read_exact(&mut [0]).unwrap();
    drop(socket);
    Helper::say("done");
    Helper::listen();
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_connection_from_the_same_port_as_one_of_ours_is_told_at_both_ends() {
    let (_collector, collector) = server();
    let (_another, another) = server();
    let (mut ours, from) = sockets::bound("127.0.0.1:0");
    let mut watch = Watch::with(&KernelOptions::default());
    sockets::connect(&ours, collector).unwrap();
    ours.write_all(b"export").unwrap();
    ours.read_exact(&mut [0; 6]).unwrap();
    let mut stranger = Helper::start("own::connect_from");
    stranger.tell(&format!("{from} {another}"));
    assert_eq!(stranger.hear(), "done");
    watch.closed(from, another);
    watch.closed(another, from);
    assert_eq!(watch.about(from, collector), [], "our end");
    assert_eq!(watch.about(collector, from), [], "the other end of ours");
}

/// Helper: a scraper that connects to the address that it is given, asks, and resets the connection before it has the answer.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn scrape_and_reset() {
    if !Helper::is_me("own::scrape_and_reset") {
        return;
    }
    let to: SocketAddr = Helper::listen().parse().unwrap();
    let mut socket = TcpStream::connect(to).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    Helper::say(&socket.local_addr().unwrap().to_string());
    Helper::listen();
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_LINGER, &at_once);
    drop(socket);
    Helper::say("reset");
    Helper::listen();
}

/// What is reported of our end after a scraper reset its connection to `listener`: before we accepted it, or after.
fn reported_of_scrape(
    watch: &mut Watch,
    listener: &TcpListener,
    to: SocketAddr,
    accept: bool,
) -> usize {
    let mut scraper = Helper::start("own::scrape_and_reset");
    scraper.tell(&to.to_string());
    let from: SocketAddr = scraper.hear().parse().unwrap();
    let accepted = accept.then(|| listener.accept().unwrap());
    scraper.tell("reset");
    assert_eq!(scraper.hear(), "reset");
    // The scraper's own end is reported, and after ours.
    watch.closed(from, to);
    drop(accepted);
    watch.collect();
    watch.about(to, from).len()
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn scrapers_that_reset_are_never_told_at_our_end() {
    let older = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut watch = Watch::with(&KernelOptions::default());
    let any = TcpListener::bind("[::]:0").unwrap();
    let any_v4 = TcpListener::bind("0.0.0.0:0").unwrap();
    let here = |listener: &TcpListener| {
        SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()))
    };
    for listener in [&older, &any, &any_v4] {
        for accept in [false, true] {
            let reported = reported_of_scrape(&mut watch, listener, here(listener), accept);
            assert_eq!(reported, 0, "{listener:?}, accepted: {accept}");
        }
    }
    // Somebody else on the same port of another address is not us.
    let port = older.local_addr().unwrap().port();
    let mut other = Helper::start("own::listen_at");
    other.tell(&format!("127.0.0.2:{port}"));
    let to: SocketAddr = other.hear().parse().unwrap();
    let mut scraper = Helper::start("own::scrape_and_reset");
    scraper.tell(&to.to_string());
    let from: SocketAddr = scraper.hear().parse().unwrap();
    scraper.tell("reset");
    watch.closed(to, from);
}

/// Helper: listens at the address that it is given.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn listen_at() {
    if !Helper::is_me("own::listen_at") {
        return;
    }
    let listener = TcpListener::bind(Helper::listen()).unwrap();
    Helper::say(&listener.local_addr().unwrap().to_string());
    Helper::listen();
}
