//! Connections that failed before a SYN was sent: no route, prohibited. They never change their state, so `tcp` does not see them.
//!
//! Where the kernel offers `fexit`, the hook costs only TCP connects. Else the end of the system call `connect` serves; as soon as
//! any system call is traced, the kernel takes a path that makes all of them some 40 ns slower.

use aya_ebpf::{
    macros::{fexit, tracepoint},
    programs::{FExitContext, TracePointContext},
};
use netflume_ebpf::{ABSENT, ConnectionRecord, phase, role};

use crate::{
    access::{
        Ptr, current_owner, current_registers, current_tgid, offset, read_user, system_call_result,
    },
    iterators::socket_of,
    maps, own, scope,
    socket::{self, AF_INET, AF_INET6},
    tcp::state,
};

const EACCES: u64 = 13;
const ENETUNREACH: u64 = 101;
const EHOSTUNREACH: u64 = 113;

/// The part of `sockaddr_in` and `sockaddr_in6` that matters: 28 bytes, include/uapi/linux/in6.h.
type SocketAddress = [u8; 28];

/// The end of `inet_stream_connect(struct socket *, struct sockaddr *, int, int)`.
#[fexit(function = "inet_stream_connect")]
pub fn connect_return(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(4);
    if is_no_way(i64::from(result)) {
        let sk = Ptr::traced(&ctx, 0).follow(offset!(socket_sk));
        if never_tried(sk) {
            let peer: SocketAddress = Ptr::traced(&ctx, 1).read(0);
            tell(sk, &peer, (-result) as u16);
        }
    }
    0
}

/// The end of the system call `connect(int, struct sockaddr *, int)`.
#[tracepoint]
pub fn sys_exit_connect(ctx: TracePointContext) -> u32 {
    let result = system_call_result(&ctx);
    if is_no_way(result) && offset!(regs_argument1) != ABSENT && offset!(files_fdt) != ABSENT {
        let registers = current_registers();
        let descriptor: u32 = registers.read(offset!(regs_argument1));
        let table = Ptr::current_task()
            .follow(offset!(task_files))
            .follow(offset!(files_fdt));
        if descriptor < table.read::<u32>(offset!(fdtable_max_fds)) {
            let files = table.follow(offset!(fdtable_fd));
            let file = files.plus(u64::from(descriptor) * 8).follow(0);
            let sk = socket_of(file);
            if never_tried(sk) {
                let peer: SocketAddress = read_user(registers.read(offset!(regs_argument2)));
                tell(sk, &peer, (-result) as u16);
            }
        }
    }
    0
}

#[inline(always)]
fn is_no_way(result: i64) -> bool {
    let errno = result.wrapping_neg() as u64;
    errno == ENETUNREACH || errno == EHOSTUNREACH || errno == EACCES
}

/// A TCP socket that has never come as far as SYN_SENT: only there it gets a sequence number.
#[inline(always)]
fn never_tried(sk: Ptr) -> bool {
    !sk.is_null()
        && socket::is_tcp(sk)
        && scope::contains(sk)
        && sk.read::<u32>(offset!(tcp_write_seq)) == 0
}

#[inline(always)]
fn tell(sk: Ptr, peer: &SocketAddress, errno: u16) {
    let family = u16::from_ne_bytes([peer[0], peer[1]]);
    if (family != AF_INET && family != AF_INET6) || own::is_own(current_tgid()) {
        return;
    }
    let Some(record) = maps::reserve::<ConnectionRecord>() else {
        return;
    };
    socket::observe(sk, state::CLOSE, role::CLIENT, record);
    current_owner(&mut record.owner);
    record.peer_port = u16::from_be_bytes([peer[2], peer[3]]);
    if family == AF_INET {
        record.peer_address = [
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, peer[4], peer[5], peer[6], peer[7],
        ];
    } else {
        record.peer_address = [
            peer[8], peer[9], peer[10], peer[11], peer[12], peer[13], peer[14], peer[15], peer[16],
            peer[17], peer[18], peer[19], peer[20], peer[21], peer[22], peer[23],
        ];
    }
    record.opened_boot_ns = record.header.boot_ns;
    record.error = errno;
    record.phase = phase::FAILED;
    maps::send(record);
}
