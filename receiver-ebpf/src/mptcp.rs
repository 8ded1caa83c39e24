//! Multipath TCP: one connection of the process over one or more TCP connections of the kernel, its subflows.
//!
//! The process has the descriptor of a `struct mptcp_sock`; every subflow is a TCP socket that no descriptor leads to. Each is recorded as
//! what it is, since TCP counts its bytes; those after the first are parts: recorded with the ends of the connection, without an
//! opening or an end of their own.

use netflume_ebpf::{ABSENT, ConnectionRecord};

use crate::{
    access::{Fields, Ptr, offset},
    socket,
};

const IPPROTO_MPTCP: u16 = 262;

/// Not a TCP socket, but one of Multipath TCP.
#[inline(always)]
pub fn is_mptcp(sk: impl Fields) -> bool {
    let family: u16 = sk.get(offset!(sock_family));
    (family == socket::AF_INET || family == socket::AF_INET6)
        && sk.get::<u16>(offset!(sock_protocol)) == IPPROTO_MPTCP
}

/// The TCP socket of the first subflow, or the one that listens; null if there is none.
#[inline(always)]
pub fn first(connection: Ptr) -> Ptr {
    if offset!(mptcp_first) == ABSENT {
        return Ptr::NULL;
    }
    connection.follow(offset!(mptcp_first))
}

/// The `struct mptcp_sock` that the TCP socket is a later subflow of; null if it is none.
#[inline(always)]
pub fn whole(sk: impl Fields) -> Ptr {
    if offset!(tcp_is_mptcp) == ABSENT
        || offset!(icsk_ulp_data) == ABSENT
        || offset!(subflow_conn) == ABSENT
        || sk.get::<u8>(offset!(tcp_is_mptcp)) == 0
    {
        return Ptr::NULL;
    }
    let subflow = sk.raw().follow(offset!(icsk_ulp_data));
    let connection = subflow.follow(offset!(subflow_conn));
    if connection.is_null() || first(connection).address() == sk.address() {
        return Ptr::NULL;
    }
    connection
}

/// Gives the record of a later subflow the ends of its connection.
#[inline(always)]
pub fn complete(sk: impl Fields, record: &mut ConnectionRecord) {
    let connection = whole(sk);
    record.part = u8::from(!connection.is_null());
    if record.part != 0 {
        socket::copy_ends(connection, record);
    }
}
