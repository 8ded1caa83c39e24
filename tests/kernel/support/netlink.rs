//! Queueing disciplines and routes, by route netlink (include/uapi/linux/rtnetlink.h, pkt_sched.h); addresses of Multipath TCP, by generic
//! netlink (include/uapi/linux/genetlink.h, mptcp.h).

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
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    ask(libc::NETLINK_ROUTE, message, libc::RTM_NEWQDISC, flags);
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
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    ask(libc::NETLINK_ROUTE, message, libc::RTM_NEWROUTE, flags);
}

const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const MPTCP_PM_CMD_ADD_ADDR: u8 = 1;
const MPTCP_PM_CMD_SET_LIMITS: u8 = 5;
const MPTCP_PM_ATTR_ADDR: u16 = 1;
const MPTCP_PM_ATTR_RCV_ADD_ADDRS: u16 = 2;
const MPTCP_PM_ATTR_SUBFLOWS: u16 = 3;
const MPTCP_PM_ADDR_ATTR_FAMILY: u16 = 1;
const MPTCP_PM_ADDR_ATTR_ADDR4: u16 = 3;
const MPTCP_PM_ADDR_ATTR_FLAGS: u16 = 6;
const MPTCP_PM_ADDR_FLAG_SUBFLOW: u32 = 2;
const NLA_F_NESTED: u16 = 0x8000;

/// Connections of Multipath TCP of this thread's network namespace get a second subflow, from this address.
pub(crate) fn allow_subflow_from(address: [u8; 4]) {
    let mut name = generic(CTRL_CMD_GETFAMILY);
    attribute(&mut name, CTRL_ATTR_FAMILY_NAME, b"mptcp_pm\0");
    let controller = u16::try_from(libc::GENL_ID_CTRL).unwrap();
    let answer = ask(libc::NETLINK_GENERIC, name, controller, 0);
    let family = find(&answer[20..], CTRL_ATTR_FAMILY_ID);
    let family = u16::from_ne_bytes(family[..2].try_into().unwrap());

    let mut limits = generic(MPTCP_PM_CMD_SET_LIMITS);
    for limit in [MPTCP_PM_ATTR_RCV_ADD_ADDRS, MPTCP_PM_ATTR_SUBFLOWS] {
        // Each end may try, and only one of them gets through.
        attribute(&mut limits, limit, &4_u32.to_ne_bytes());
    }
    ask(libc::NETLINK_GENERIC, limits, family, 0);

    let mut inner = Vec::new();
    let inet = u16::try_from(libc::AF_INET).unwrap();
    attribute(&mut inner, MPTCP_PM_ADDR_ATTR_FAMILY, &inet.to_ne_bytes());
    attribute(&mut inner, MPTCP_PM_ADDR_ATTR_ADDR4, &address);
    let flags = MPTCP_PM_ADDR_FLAG_SUBFLOW.to_ne_bytes();
    attribute(&mut inner, MPTCP_PM_ADDR_ATTR_FLAGS, &flags);
    let mut add = generic(MPTCP_PM_CMD_ADD_ADDR);
    attribute(&mut add, MPTCP_PM_ATTR_ADDR | NLA_F_NESTED, &inner);
    ask(libc::NETLINK_GENERIC, add, family, 0);
}

/// Room for the header, and a `struct genlmsghdr`.
fn generic(command: u8) -> Vec<u8> {
    let mut message = vec![0; 16];
    message.extend([command, 1, 0, 0]);
    message
}

/// The value of the first attribute of this kind.
fn find(mut attributes: &[u8], kind: u16) -> &[u8] {
    loop {
        let [length, its] =
            [0, 2].map(|at| u16::from_ne_bytes(attributes[at..at + 2].try_into().unwrap()));
        let length = usize::from(length);
        if its == kind {
            return &attributes[4..length];
        }
        attributes = &attributes[length.next_multiple_of(4)..];
    }
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Fills in the header of a message, sends it, and asserts that the kernel did it; its first answer.
fn ask(protocol: i32, mut message: Vec<u8>, kind: u16, flags: i32) -> Vec<u8> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags;
    let length = u32::try_from(message.len()).unwrap();
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&u16::try_from(flags).unwrap().to_ne_bytes());
    let mut answer = vec![0_u8; 4096];
    // SAFETY: no pointers but to buffers of the given lengths; the descriptor is checked and owned by nothing else.
    let length = unsafe {
        let descriptor = libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            protocol,
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
    if u16::from_ne_bytes([answer[4], answer[5]]) == u16::try_from(libc::NLMSG_ERROR).unwrap() {
        // After the header zero or a negative errno.
        let error = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
        assert_eq!(error, 0, "{}", Error::from_raw_os_error(-error));
    }
    answer.truncate(length.cast_unsigned());
    answer
}
