//! UDP: what one call moved, and with whom: calls that move no datagram, a part of one, or many; calls that leave something behind.

use std::io::{Error, IoSlice, IoSliceMut};
use std::mem::zeroed;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use netflume::receivers::ebpf::source::{HookState, KernelReport};
use netflume_tests::wait;

use crate::support::{Watch, set_option};
use crate::udp::{last, sendmmsg};

const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;

/// Two sockets, connected to each other.
fn connected() -> [(UdpSocket, SocketAddr); 2] {
    let [a, b] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let (at_a, at_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
    a.connect(at_b).unwrap();
    b.connect(at_a).unwrap();
    [(a, at_a), (b, at_b)]
}

fn send(socket: &UdpSocket, bytes: usize, flags: i32) {
    let payload = vec![7_u8; bytes];
    // SAFETY: the pointer and length are those of `payload`.
    let sent = unsafe { libc::send(socket.as_raw_fd(), payload.as_ptr().cast(), bytes, flags) };
    assert_eq!(sent, bytes as isize, "{}", Error::last_os_error());
}

fn receive(socket: &UdpSocket) -> usize {
    socket.recv(&mut [0; 65_536]).unwrap()
}

/// `recvmsg` with room for control messages.
fn receive_message(socket: &UdpSocket, flags: i32) -> isize {
    let mut buffer = vec![0_u8; 65_536];
    let mut control = [0_u64; 32];
    let mut part = IoSliceMut::new(&mut buffer);
    // SAFETY: plain data; all pointers live until the call returns.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = (&raw mut part).cast();
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags)
    }
}

/// `sendmsg` whose control message divides the payload into datagrams of `segment` bytes.
fn send_divided(socket: &UdpSocket, payload: &[u8], segment: u16) -> isize {
    let part = IoSlice::new(payload);
    let mut control = [0_u64; 8];
    // SAFETY: plain data; all pointers live until the call returns; the control message fits.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = (&raw const part).cast_mut().cast();
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(2) as _;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_UDP;
        (*head).cmsg_type = UDP_SEGMENT;
        (*head).cmsg_len = libc::CMSG_LEN(2) as _;
        libc::CMSG_DATA(head).cast::<u16>().write_unaligned(segment);
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn what_is_read_of_the_error_queue_is_no_datagram() {
    let mut watch = Watch::start();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nowhere = gone.local_addr().unwrap();
    drop(gone);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    set_option(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, &1_i32);
    socket.connect(nowhere).unwrap();
    socket.send(&[7; 100]).unwrap();
    // The ICMP error comes back with the payload that it answers.
    let error = wait::until("the ICMP error", || {
        let read = receive_message(&socket, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT);
        (read >= 0).then_some(read)
    });
    assert_eq!(error.unwrap(), 100);
    watch.collect();
    let state = last(&watch, at, nowhere);
    assert_eq!(
        (state.bytes_sent, state.packets_sent),
        (100, 1),
        "{state:?}"
    );
    assert_eq!(
        (state.bytes_received, state.packets_received),
        (0, 0),
        "{state:?}"
    );
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn calls_that_move_no_datagram_count_nothing() {
    let mut watch = Watch::start();
    let [(a, at_a), (b, at_b)] = connected();
    send(&a, 0, 0);
    send(&a, 30, 0);
    // Looking ahead, with and without bytes.
    let mut buffer = [0; 100];
    assert_eq!(b.peek(&mut buffer).unwrap(), 0);
    assert_eq!(receive(&b), 0);
    assert_eq!(b.peek(&mut buffer).unwrap(), 30);
    assert_eq!(receive(&b), 30);
    // Only confirms that the neighbour is there.
    send(&a, 0, libc::MSG_CONFIRM | 0x10);
    // Nothing more comes in: the call reports that by no bytes.
    b.shutdown_read();
    assert_eq!(receive(&b), 0);
    watch.collect();
    let state = last(&watch, at_a, at_b);
    assert_eq!((state.bytes_sent, state.packets_sent), (30, 2), "{state:?}");
    let state = last(&watch, at_b, at_a);
    assert_eq!(
        (state.bytes_received, state.packets_received),
        (30, 2),
        "{state:?}"
    );
}

trait Shutdown {
    fn shutdown_read(&self);
}

impl Shutdown for UdpSocket {
    fn shutdown_read(&self) {
        // SAFETY: an open descriptor.
        let result = unsafe { libc::shutdown(self.as_raw_fd(), libc::SHUT_RD) };
        assert_eq!(result, 0, "{}", Error::last_os_error());
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_datagram_sent_in_parts_is_one_datagram() {
    let mut watch = Watch::start();
    // Parts by a flag, to a connected peer.
    let [(a, at_a), (b, at_b)] = connected();
    send(&a, 10, libc::MSG_MORE);
    send(&a, 20, libc::MSG_MORE);
    send(&a, 30, 0);
    assert_eq!(receive(&b), 60);
    // Parts by the option. Switching it off sends what has come together: no call that sends.
    set_option(&a, libc::SOL_UDP, libc::UDP_CORK, &1_i32);
    send(&a, 1, 0);
    send(&a, 2, 0);
    set_option(&a, libc::SOL_UDP, libc::UDP_CORK, &0_i32);
    assert_eq!(receive(&b), 3);
    send(&a, 5, 0);
    assert_eq!(receive(&b), 5);
    // Parts to a peer that only the first call names.
    let c = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at_c = c.local_addr().unwrap();
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at_free = free.local_addr().unwrap();
    set_option(&free, libc::SOL_UDP, libc::UDP_CORK, &1_i32);
    free.send_to(&[7; 100], at_c).unwrap();
    send(&free, 200, 0);
    set_option(&free, libc::SOL_UDP, libc::UDP_CORK, &0_i32);
    assert_eq!(receive(&c), 300);
    watch.collect();
    let state = last(&watch, at_a, at_b);
    assert_eq!((state.bytes_sent, state.packets_sent), (68, 3), "{state:?}");
    let state = last(&watch, at_b, at_a);
    assert_eq!(
        (state.bytes_received, state.packets_received),
        (68, 3),
        "{state:?}"
    );
    let state = last(&watch, at_free, at_c);
    assert_eq!(
        (state.bytes_sent, state.packets_sent),
        (300, 1),
        "{state:?}"
    );
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_batch_counts_as_its_datagrams() {
    let mut watch = Watch::start();
    let [(a, at_a), (b, at_b)] = connected();
    // By a control message: three full ones and a rest.
    assert_eq!(send_divided(&a, &[7; 3100], 1000), 3100);
    for _ in 0..4 {
        receive(&b);
    }
    // By the option, received as a batch too.
    set_option(&a, libc::SOL_UDP, UDP_SEGMENT, &1200_i32);
    set_option(&b, libc::SOL_UDP, UDP_GRO, &1_i32);
    send(&a, 3000, 0);
    // Where the loopback device does not take batches (5.10), they come one by one.
    let mut received = 0;
    while received < 3000 {
        received += receive_message(&b, 0);
    }
    assert_eq!(received, 3000);
    // One that needs no division.
    send(&a, 1200, 0);
    assert_eq!(receive_message(&b, 0), 1200);
    watch.collect();
    let state = last(&watch, at_a, at_b);
    assert_eq!(
        (state.bytes_sent, state.packets_sent),
        (7300, 4 + 3 + 1),
        "{state:?}"
    );
    let state = last(&watch, at_b, at_a);
    assert_eq!(
        (state.bytes_received, state.packets_received),
        (7300, 4 + 3 + 1),
        "{state:?}"
    );
}

/// Makes the program attach its hooks on sending, where it has need of them.
fn attach_send_hooks(watch: &mut Watch) {
    let trampolines = |report: &KernelReport| {
        let mut hooks = report.hooks.iter();
        hooks.any(|hook| hook.hook == "fexit/udp_sendmsg" && hook.state == HookState::Used)
    };
    if trampolines(watch.source.report()) {
        return;
    }
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let servers = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let at = [0, 1].map(|n: usize| servers[n].local_addr().unwrap());
    assert_eq!(sendmmsg(&client, [&[1; 5], &[1; 7]], at), 2);
    watch.collect();
    watch.collect();
    let mut hooks = watch.source.report().hooks.iter();
    assert!(
        hooks.any(|hook| hook.hook == "cgroup/sendmsg4" && hook.state == HookState::Used),
        "{:?}",
        watch.source.report()
    );
}

/// Fails after the hook on sending ran: no datagram is as long as the longest number of its header allows.
fn fail_to_send(socket: &UdpSocket, to: SocketAddr) {
    let error = socket.send_to(&vec![7; 65_510], to).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn what_a_call_left_does_not_reach_the_next_one() {
    let mut watch = Watch::start();
    attach_send_hooks(&mut watch);
    let [a, b, c, d] = [(); 4].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let at = |socket: &UdpSocket| socket.local_addr().unwrap();
    // A receive that asks for the sender on a connected socket, then another peer.
    a.connect(at(&b)).unwrap();
    b.send_to(&[7; 10], at(&a)).unwrap();
    a.recv_from(&mut [0; 100]).unwrap();
    a.connect(at(&c)).unwrap();
    a.send(&[7; 900]).unwrap();
    // A send that fails.
    fail_to_send(&d, at(&b));
    d.connect(at(&c)).unwrap();
    d.send(&[7; 1234]).unwrap();
    // Two threads that fail on one socket; one goes on with another socket.
    let [shared, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    other.connect(at(&c)).unwrap();
    fail_to_send(&shared, at(&b));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            fail_to_send(&shared, at(&b));
            other.send(&[7; 777]).unwrap();
        });
    });
    watch.collect();
    for (socket, bytes) in [(&a, 900), (&d, 1234), (&other, 777)] {
        let state = last(&watch, at(socket), at(&c));
        assert_eq!(
            (state.bytes_sent, state.packets_sent),
            (bytes, 1),
            "{state:?}"
        );
        let about_b = watch.about(at(socket), at(&b));
        let to_b: u64 = about_b.iter().map(|state| state.bytes_sent).sum();
        assert_eq!(to_b, 0, "{about_b:?}");
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_datagram_from_before_the_connect_belongs_to_its_sender() {
    let mut watch = Watch::start();
    let [a, early, later] = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let at = |socket: &UdpSocket| socket.local_addr().unwrap();
    early.send_to(&[7; 40], at(&a)).unwrap();
    a.connect(at(&later)).unwrap();
    let (read, from) = a.recv_from(&mut [0; 100]).unwrap();
    assert_eq!((read, from), (40, at(&early)));
    watch.collect();
    assert_eq!(last(&watch, at(&a), at(&early)).bytes_received, 40);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn threads_that_receive_on_one_socket_know_each_sender() {
    const DATAGRAMS: u64 = 2000;
    let mut watch = Watch::start();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at_server = server.local_addr().unwrap();
    let clients = [(); 4].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let received = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in &clients {
            scope.spawn(|| {
                // The empty datagram ends one thread.
                while server.recv_from(&mut [0; 10]).unwrap().0 > 0 {
                    received.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        for n in 1..=DATAGRAMS {
            for client in &clients {
                client.send_to(&[1; 3], at_server).unwrap();
            }
            // No more than the receive buffer holds.
            if n % 16 == 0 {
                let all = n * clients.len() as u64;
                wait::until("the receivers", || {
                    (received.load(std::sync::atomic::Ordering::Relaxed) == all).then_some(())
                })
                .unwrap();
            }
        }
        for client in &clients {
            client.send_to(&[], at_server).unwrap();
        }
    });
    watch.collect();
    for client in &clients {
        let state = last(&watch, at_server, client.local_addr().unwrap());
        assert_eq!(
            (state.bytes_received, state.packets_received),
            (3 * DATAGRAMS, DATAGRAMS + 1),
            "{state:?}"
        );
    }
}
