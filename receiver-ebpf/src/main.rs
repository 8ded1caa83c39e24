//! The kernel programs. Each does a small, constant amount of work; none runs per packet.
//!
//! | file | hook | what it keeps or says |
//! | --- | --- | --- |
//! | [`tcp`] | `tp_btf/inet_sock_set_state` | owner and opening time of each connection; one record when it ends |
//! | [`connect`] | `fexit/tcp_v4_connect`, `tcp_v6_connect`, else `cgroup/connect4`, `connect6`, `tp_btf/tcp_destroy_sock` | one record when there was no way to the peer |
//! | [`iterators`] | `iter/task_file` and `iter/bpf_map_elem`, else `iter/tcp` | one record for each open connection, when user space asks |
//! | [`udp`] | `fexit/udp_sendmsg` …, or `tp_btf/sock_send_length` … | bytes and datagrams of each socket and peer |
//!
//! [`scope`] decides which sockets are watched, [`own`] which are ours, [`sequence`] and [`socket`] what is read of a socket, [`mptcp`] what belongs together; [`access`] alone touches kernel memory, [`shared`] map values. Plain, fully initialised values only: the verifiers of 5.10 and 6.1 refuse to read
//! padding that was never written, so no `Option` and no enum with payload crosses the stack here.

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the one way to the atomic add of BPF")]
#![expect(
    unreachable_pub,
    reason = "a binary: everything is reachable only from within"
)]

mod access;
mod connect;
mod iterators;
mod maps;
mod mptcp;
mod own;
mod scope;
mod sequence;
mod shared;
mod socket;
mod steps;
mod tcp;
mod udp;

/// Kernel helpers that only GPL-compatible programs may call are used; this program is `MIT OR GPL-2.0-only`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that this is never reached: it refuses a program with an endless loop.
    loop {}
}
