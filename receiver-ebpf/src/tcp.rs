//! TCP: who opened which connection when, and what it had moved when it ended.
//!
//! The kernel counts bytes, retransmissions and round trips itself (`struct tcp_sock`); what it does not keep is the owner and
//! the opening time. `inet_sock_set_state` runs a handful of times in a connection's life, never per packet:
//!
//! | change | context | what is done |
//! | --- | --- | --- |
//! | → SYN_SENT | the connecting process | remember it as owner |
//! | SYN_SENT → ESTABLISHED | any | note the time |
//! | LISTEN → SYN_RECV | any | remember an accepted connection, owner still unknown |
//! | SYN_RECV → ESTABLISHED | any | leave it out if it is ours or the other end of ours; note the time if both ends connected |
//! | → FIN_WAIT1, → LAST_ACK | the closing process | remember it as owner if none is known |
//! | → CLOSE | any | tell the final counters, forget |
//! | ↔ LISTEN | the listening process | tell the listener |
//!
//! With TCP Fast Open a connection lives, and may end, in SYN_RECV: the process has it, data goes both ways.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use netflume_ebpf::{ConnectionRecord, ListenerRecord, OwnerRecord, phase, role};

use crate::{
    access::{Fields, Known, Ptr, boot_ns, current_owner, current_tgid, offset},
    connect,
    maps::{self, ATTEMPT, Connection},
    mptcp, own, scope, sequence,
    shared::{Shared, field},
    socket,
};

/// TCP states, include/net/tcp_states.h.
pub mod state {
    pub const ESTABLISHED: u32 = 1;
    pub const SYN_SENT: u32 = 2;
    pub const SYN_RECV: u32 = 3;
    pub const FIN_WAIT1: u32 = 4;
    pub const FIN_WAIT2: u32 = 5;
    pub const CLOSE: u32 = 7;
    pub const CLOSE_WAIT: u32 = 8;
    pub const LAST_ACK: u32 = 9;
    pub const LISTEN: u32 = 10;
    pub const CLOSING: u32 = 11;

    /// Both ends know of each other, and a struct tcp_sock stands behind it.
    #[inline(always)]
    pub fn is_connection(state: u32) -> bool {
        matches!(
            state,
            ESTABLISHED | SYN_RECV | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING
        )
    }
}

const EADDRNOTAVAIL: u16 = 99;
const ECANCELED: u16 = 125;

/// Every change of a TCP state, in every network namespace.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    // The other changes need nothing: a look at two numbers, and out.
    match new {
        state::ESTABLISHED
        | state::SYN_SENT
        | state::SYN_RECV
        | state::FIN_WAIT1
        | state::CLOSE
        | state::LAST_ACK
        | state::LISTEN => {
            let sk = Known::tcp_argument(&ctx);
            if !sk.is_null() && scope::contains(sk) {
                change(sk, old, new);
            }
        }
        _ => {}
    }
    0
}

#[inline(always)]
fn change(sk: Known, old: u32, new: u32) {
    match new {
        state::SYN_SENT => connecting(sk),
        state::SYN_RECV if old == state::LISTEN => arriving(sk),
        // Both ends connected to each other.
        state::SYN_RECV => {}
        state::ESTABLISHED if old == state::SYN_SENT => connected(sk),
        state::ESTABLISHED => accepted(sk),
        state::FIN_WAIT1 | state::LAST_ACK => {
            if let Some(connection) = maps::connection(sk) {
                if old == state::SYN_RECV {
                    opened(connection);
                }
                closed_by_current(connection);
            }
        }
        state::LISTEN => tell_listener(sk, true),
        _ if old == state::LISTEN => tell_listener(sk, false),
        _ => closed(sk, old),
    }
}

#[inline(always)]
fn connecting(sk: Known) {
    let mut connection = Connection::EMPTY;
    current_owner(&mut connection.owner);
    connection.role = role::CLIENT;
    connection.opened_boot_ns = boot_ns() | ATTEMPT;
    connection.excluded = u8::from(own::is_own(connection.owner.pid));
    connection.held = maps::pass() as u16;
    maps::remember(sk, &connection, false);
    connect::found_way(sk);
}

#[inline(always)]
fn connected(sk: Known) {
    let Some(connection) = maps::connection(sk) else {
        return;
    };
    opened(connection);
    if field!(connection.excluded).get() != 0 {
        // The other end may be on this host.
        own::connected(sk, role::CLIENT);
    }
}

/// A copy of the listener for a connection that comes in. Its addresses are not known yet.
#[inline(always)]
fn arriving(sk: Known) {
    let mut connection = Connection::EMPTY;
    connection.opened_boot_ns = boot_ns();
    connection.role = role::SERVER;
    maps::remember(sk, &connection, false);
}

#[inline(always)]
fn accepted(sk: Known) {
    let ours = own::accepts(sk) || own::is_other_end(sk, role::UNKNOWN);
    // A connection that came in was noted when it arrived.
    if (ours || !sequence::came_from_listener(sk))
        && let Some(connection) = maps::connection(sk)
    {
        maps::exclude(connection, ours);
        opened(connection);
    }
}

/// Notes the time of an attempt's success, unless it is noted already.
#[inline(always)]
fn opened(connection: Shared<Connection>) {
    let opened = field!(connection.opened_boot_ns);
    if opened.get() & ATTEMPT != 0 {
        opened.set(boot_ns());
    }
}

/// The running process closes it: remembered as owner if none is known yet.
#[inline(always)]
fn closed_by_current(connection: Shared<Connection>) {
    if field!(connection.owner.pid).get() == 0 {
        let mut owner = OwnerRecord::NONE;
        current_owner(&mut owner);
        field!(connection.owner).store(&owner);
        maps::exclude(connection, own::is_own(owner.pid));
    }
}

#[inline(always)]
fn closed(sk: Known, old: u32) {
    let Some(connection) = maps::connection(sk) else {
        // Never a connection; or one that the full map had refused, or that is older than the first pass.
        if old != state::SYN_RECV && old != state::CLOSE {
            tell_end(sk, old, &Connection::EMPTY);
        }
        return;
    };
    // Straight to CLOSE without an error: closed with unread data, or never accepted. With one: the network ended it, and who
    // runs now has nothing to do with it.
    let open = matches!(
        old,
        state::ESTABLISHED | state::CLOSE_WAIT | state::SYN_RECV
    );
    if open && sk.get::<u32>(offset!(sock_err)) == 0 {
        closed_by_current(connection);
    }
    let known = connection.load();
    if known.excluded != 0 {
        own::ended(sk, known.role);
    } else if is_told(sk, old, &known) {
        tell_end(sk, old, &known);
    }
    maps::forget(sk);
}

/// Whether its end is reported. What ends in SYN_RECV was mostly never a connection: the kernel made a socket for it and threw it away.
/// Unless data came with the SYN, or a process has it, or it connected itself.
#[inline(always)]
fn is_told(sk: Known, old: u32, connection: &Connection) -> bool {
    match old {
        state::SYN_RECV => {
            connection.role == role::CLIENT
                || sequence::bytes_received(sk) != 0
                || !sk.pointer(offset!(sock_socket)).is_null()
        }
        // Where the connect functions tell their results, that of an attempt that sent nothing is theirs to tell.
        state::SYN_SENT => !connect::returns() || sk.get::<u32>(offset!(tcp_segs_out)) != 0,
        _ => true,
    }
}

#[inline(always)]
fn tell_end(sk: Known, old: u32, connection: &Connection) {
    if socket::is_unwanted_loopback(sk) {
        return;
    }
    let Some(record) = maps::reserve::<ConnectionRecord>() else {
        return;
    };
    let mut role = connection.role;
    if role == role::UNKNOWN {
        role = sequence::role_of(sk);
    }
    socket::observe(sk, old, role, record);
    mptcp::complete(sk, record);
    record.opened_boot_ns = connection.opened(old);
    if connection.owner.pid == 0 {
        socket::creator(sk, &mut record.owner);
        record.acceptor = socket::acceptor(sk);
    } else {
        record.owner = connection.owner;
    }
    let error: u32 = sk.get(offset!(sock_err));
    record.error = error as u16;
    record.phase = phase::CLOSED;
    let attempted = connection.opened_boot_ns & ATTEMPT != 0;
    if old == state::SYN_SENT || old == state::SYN_RECV && attempted {
        record.phase = phase::FAILED;
        record.opened_boot_ns = record.header.boot_ns;
        record.bytes_sent = 0;
        if error == 0 {
            record.error = reason(sk);
        }
    }
    maps::send(record);
}

/// Why an attempt ended that no answer of the network ended.
#[inline(always)]
fn reason(sk: Known) -> u16 {
    if sk.get::<u32>(offset!(tcp_segs_out)) == 0 {
        // Not even a SYN was sent: there was no free port.
        return EADDRNOTAVAIL;
    }
    // The process gave up first. An error of the network until then is the better reason, if there was one.
    let soft: u32 = sk.get(offset!(sock_err_soft));
    if soft == 0 { ECANCELED } else { soft as u16 }
}

#[inline(always)]
fn tell_listener(sk: Known, listening: bool) {
    if own::is_own(current_tgid()) {
        own::listens(sk, listening);
        return;
    }
    if let Some(record) = maps::reserve::<ListenerRecord>() {
        socket::listener(sk, record, listening);
        current_owner(&mut record.owner);
        record.credentials = socket::credentials(Ptr::current_task(), offset!(task_cred));
        maps::send(record);
    }
}
