//! Queueing disciplines and routes, by route netlink (include/uapi/linux/rtnetlink.h, pkt_sched.h).

use std::io::Error;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const TC_H_ROOT: u32 = 0xffff_ffff;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;

/// Gives the loopback device of this thread's network namespace a queue of at most so many bytes: what is longer is refused before
/// it is sent. `bfifo` is part of every kernel.
pub(crate) fn limit_loopback(bytes: u32) {
    let mut message = vec![0; 16];
    // struct tcmsg: family, interface 1 (always loopback), handle, parent, info.
    for word in [0, 1, 0x1_0000, TC_H_ROOT, 0_u32] {
        message.extend(word.to_ne_bytes());
    }
    attribute(&mut message, TCA_KIND, b"bfifo\0");
    attribute(&mut message, TCA_OPTIONS, &bytes.to_ne_bytes());
    ask(message, libc::RTM_NEWQDISC, libc::NLM_F_REPLACE);
}

/// A route to this one address, in this thread's network namespace, of a kind that leads nowhere: `RTN_BLACKHOLE`, `RTN_PROHIBIT`.
pub(crate) fn add_dead_route(kind: u8, to: IpAddr) {
    let (family, address) = match to {
        IpAddr::V4(to) => (libc::AF_INET, to.octets().to_vec()),
        IpAddr::V6(to) => (libc::AF_INET6, to.octets().to_vec()),
    };
    let mut message = vec![0; 16];
    // struct rtmsg: family, bits of the destination, of the source, type of service, table, protocol, scope, kind, flags.
    message.extend([
        u8::try_from(family).unwrap(),
        u8::try_from(address.len() * 8).unwrap(),
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_UNIVERSE,
        kind,
    ]);
    message.extend(0_u32.to_ne_bytes());
    attribute(&mut message, libc::RTA_DST, &address);
    ask(message, libc::RTM_NEWROUTE, libc::NLM_F_EXCL);
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Fills in the header of a message that creates something, sends it, and asserts that the kernel did it.
fn ask(mut message: Vec<u8>, kind: u16, flags: i32) {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | flags;
    let length = u32::try_from(message.len()).unwrap();
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&u16::try_from(flags).unwrap().to_ne_bytes());
    let mut answer = [0_u8; 4096];
    // SAFETY: no pointers but to buffers of the given lengths; the descriptor is checked and owned by nobody else.
    let length = unsafe {
        let descriptor = libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_ROUTE,
        );
        assert!(descriptor >= 0, "{}", Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(descriptor);
        let sent = libc::send(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
        );
        assert!(sent > 0, "{}", Error::last_os_error());
        libc::recv(
            socket.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            answer.len(),
            0,
        )
    };
    assert!(length >= 20, "{}", Error::last_os_error());
    // NLMSG_ERROR: the header, then zero or a negative errno.
    let error = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
    assert_eq!(error, 0, "{}", Error::from_raw_os_error(-error));
}
