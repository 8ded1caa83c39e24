//! UDP: whose an exchange is, and that none of it is lost: sockets that follow each other, flows that fall silent, full maps.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use netflume::receivers::ebpf::source::KernelOptions;
use netflume_core::ledger::Reason;
use netflume_core::model::netflow::{ConnectionState, Endpoint, Role, Transport};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::bounds::dropped;
use crate::support::{Helper, Watch, in_new_namespace, options, own_namespace};

/// The newest word on each UDP exchange that `choose` takes.
fn newest(watch: &Watch, choose: impl Fn(&ConnectionState) -> bool) -> Vec<ConnectionState> {
    let mut newest = BTreeMap::new();
    for state in &watch.connections {
        if state.transport == Transport::Udp && choose(state) {
            newest.insert(state.id, *state);
        }
    }
    newest.into_values().collect()
}

/// Binds to a port that was free a moment ago.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Runs `work` on one CPU: the kernel gives a closed socket's memory to the next one there.
fn on_one_cpu<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: all of a `cpu_set_t` may be zero; concerns this thread alone.
            unsafe {
                let mut cpus: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(0, &mut cpus);
                let result = libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus);
                assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            }
            work()
        });
        thread
            .join()
            .unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn sockets_of_two_namespaces_that_follow_each_other_are_told_apart() {
    const ROUNDS: usize = 40;
    let mut watch = Watch::start();
    let port = free_port();
    let peer = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (to_namespace, sockets) = std::sync::mpsc::channel::<()>();
    let (done, from_namespace) = std::sync::mpsc::channel();
    let send = move |port| {
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        socket.connect(peer).unwrap();
        socket.send(&[1; 10]).unwrap();
    };
    let elsewhere = on_one_cpu(move || {
        std::thread::scope(|scope| {
            // On the same CPU, as every thread that this one starts.
            let there = scope.spawn(move || {
                in_new_namespace(move || {
                    for () in &sockets {
                        send(port);
                        done.send(()).unwrap();
                    }
                    own_namespace()
                })
            });
            for _ in 0..ROUNDS {
                send(port);
                to_namespace.send(()).unwrap();
                from_namespace.recv().unwrap();
            }
            drop(to_namespace);
            there.join().unwrap()
        })
    });
    watch.collect();
    for namespace in [own_namespace(), elsewhere] {
        let states = newest(&watch, |c| {
            c.local.port == port && c.peer == Endpoint::from(peer) && c.netns == namespace
        });
        let sum: u64 = states.iter().map(|state| state.packets_sent).sum();
        assert_eq!((states.len(), sum), (ROUNDS, ROUNDS as u64), "{states:#?}");
    }
}

/// The helper of the next test: for each line, a socket at the port of its first line, one datagram to the second's.
#[test]
#[ignore = "a helper process"]
fn send_from_port() {
    if !Helper::is_me("udp_flows::send_from_port") {
        return;
    }
    let [port, peer] = [(); 2].map(|()| Helper::listen().parse::<u16>().unwrap());
    let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    socket.send_to(&[1; 10], ("127.0.0.1", peer)).unwrap();
    Helper::say("sent");
    Helper::listen();
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_server_that_restarts_on_its_port_is_a_new_process() {
    let mut watch = Watch::start();
    let port = free_port();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at_peer = peer.local_addr().unwrap();
    let pids: Vec<u32> = on_one_cpu(|| {
        let start = |_| {
            let mut helper = Helper::start("udp_flows::send_from_port");
            helper.tell(&port.to_string());
            helper.tell(&at_peer.port().to_string());
            assert_eq!(helper.hear(), "sent");
            helper.pid()
        };
        (0..5).map(start).collect()
    });
    watch.collect();
    let states = newest(&watch, |c| {
        c.local.port == port && c.peer == Endpoint::from(at_peer)
    });
    let reported: Vec<_> = pids
        .iter()
        .map(|pid| {
            let of = states.iter().filter(|state| state.owner.pid == *pid);
            of.map(|state| state.packets_sent).sum::<u64>()
        })
        .collect();
    assert_eq!(reported, [1; 5], "{states:#?}");
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn processes_that_share_a_socket_are_each_named() {
    let mut watch = Watch::start();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    socket.send(&[1; 100]).unwrap();
    // SAFETY: the child only makes two system calls.
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            let payload = [2_u8; 30];
            let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
            libc::send(fd, payload.as_ptr().cast(), payload.len(), 0);
            libc::_exit(0);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
        child.cast_unsigned()
    };
    watch.collect();
    let states = newest(&watch, |c| {
        c.local == Endpoint::from(socket.local_addr().unwrap()) && c.peer == Endpoint::from(to)
    });
    let reported: BTreeMap<u32, u64> = states
        .iter()
        .map(|state| (state.owner.pid, state.bytes_sent))
        .collect();
    let expected = BTreeMap::from([(std::process::id(), 100), (child, 30)]);
    assert_eq!(reported, expected, "{states:#?}");
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn flows_that_fall_silent_and_speak_again_lose_nothing() {
    const SOCKETS: usize = 400;
    const DATAGRAMS: u64 = 30_000;
    let mut watch = Watch::start();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let sockets: Vec<UdpSocket> = (0..SOCKETS)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(to).unwrap();
            socket
        })
        .collect();
    let (sent, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each in its turn, so that each is silent for a while; the intervals below are as short as can be.
            for socket in sockets.iter().cycle() {
                socket.send(&[1]).unwrap();
                if sent.fetch_add(1, Relaxed) + 1 >= DATAGRAMS && done.load(Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..60 {
            watch.collect();
        }
        done.store(true, Relaxed);
    });
    watch.collect();
    let states = newest(&watch, |c| c.peer == Endpoint::from(to));
    let reported: u64 = states.iter().map(|state| state.packets_sent).sum();
    assert_eq!(reported, sent.load(Relaxed), "{} flows", states.len());
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_silent_flow_ends_and_a_new_one_begins() {
    let mut watch = Watch::start();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.local_addr().unwrap()).unwrap();
    let of = |watch: &Watch| {
        let local = Endpoint::from(socket.local_addr().unwrap());
        newest(watch, |c| c.local == local)
    };
    socket.send(&[1; 10]).unwrap();
    watch.collect();
    socket.send(&[1; 10]).unwrap();
    watch.collect();
    let totals = of(&watch);
    assert_eq!(totals.len(), 1, "{totals:#?}");
    assert_eq!(totals[0].bytes_sent, 20, "a running total");
    for _ in 0..10 {
        watch.collect();
    }
    socket.send(&[1; 10]).unwrap();
    watch.collect();
    let bytes: Vec<u64> = of(&watch).iter().map(|state| state.bytes_sent).collect();
    assert_eq!(bytes.iter().sum::<u64>(), 30, "{bytes:?}");
    assert_eq!(bytes.len(), 2, "{bytes:?}");
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_full_map_keeps_the_totals_and_is_reported_once() {
    const CLIENTS: usize = 60;
    let mut watch = Watch::with(&KernelOptions {
        max_udp_flows: 4,
        ..options()
    });
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at_server = server.local_addr().unwrap();
    let clients: Vec<UdpSocket> = (0..CLIENTS)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports: Vec<u16> = clients
        .iter()
        .map(|client| client.local_addr().unwrap().port())
        .collect();
    // What else the machine sends meanwhile may be in the overflow too, but no row of it is of our ports.
    let mut exchange = || {
        for client in &clients {
            client.send_to(&[1; 10], at_server).unwrap();
            let (_, from) = server.recv_from(&mut [0; 100]).unwrap();
            server.send_to(&[1; 7], from).unwrap();
            client.recv_from(&mut [0; 100]).unwrap();
        }
        watch.collect();
    };
    let logging = subscriber.set_default();
    exchange();
    exchange();
    drop(logging);
    let ours = newest(&watch, |c| {
        ports.contains(&c.local.port) || c.local.port == at_server.port()
    });
    let rows = |count: fn(&ConnectionState) -> u64| ours.iter().map(count).sum::<u64>();
    let sums = |f: fn(&netflume_core::model::netflow::Overflow) -> u64| {
        watch.overflows.iter().map(f).sum::<u64>()
    };
    let all = 2 * CLIENTS as u64;
    let sent = rows(|c| c.packets_sent) + sums(|o| o.packets_sent);
    let received = rows(|c| c.packets_received) + sums(|o| o.packets_received);
    assert!(sent >= 2 * all && received >= 2 * all, "{sent} {received}");
    let bytes = rows(|c| c.bytes_sent) + sums(|o| o.bytes_sent);
    assert!(bytes >= 17 * all, "{bytes}");
    // Nothing twice: the machine is not that busy with UDP.
    assert!(sent < 3 * all && received < 3 * all, "{sent} {received}");
    assert!(
        dropped(&watch, Reason::TableFull) >= 2 * all,
        "{:?}",
        watch.books()
    );
    assert_eq!(watch.books().held(), 0, "{:?}", watch.books());
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("max_udp_flows").count(), 1, "{log}");
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn clients_of_a_server_are_one_flow_where_that_is_asked_for() {
    let mut watch = Watch::with(&KernelOptions {
        merge_udp_clients_from: Some(0),
        ..options()
    });
    // Chosen, and below the ports that the kernel chooses.
    let server = (20_000..30_000)
        .find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok())
        .unwrap();
    let at_server = server.local_addr().unwrap();
    let clients: Vec<UdpSocket> = (0..30)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    for client in &clients {
        client.send_to(&[1; 10], at_server).unwrap();
        let (_, from) = server.recv_from(&mut [0; 100]).unwrap();
        server.send_to(&[1; 7], from).unwrap();
    }
    watch.collect();
    let states = newest(&watch, |c| c.local == Endpoint::from(at_server));
    let [state] = states.as_slice() else {
        panic!("{states:#?}");
    };
    assert_eq!(
        (state.role, state.peer.port),
        (Role::Server, 0),
        "{state:?}"
    );
    assert_eq!(
        (state.packets_received, state.bytes_sent),
        (30, 210),
        "{state:?}"
    );
    let of_clients = newest(&watch, |c| c.peer == Endpoint::from(at_server));
    assert_eq!(of_clients.len(), 30, "each client is a socket of its own");
}
