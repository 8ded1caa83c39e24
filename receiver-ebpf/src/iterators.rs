//! One pass over every descriptor of every process: the sockets behind them, with their owners, in all network namespaces. Or,
//! where that cannot be, over the TCP sockets of one network namespace.
//!
//! Runs when user space reads the iterator. A socket that several descriptors share is told once a pass; one without any
//! descriptor (still in the accept queue, or closed and lingering) is left to the state changes.

use netflume_ebpf::{ABSENT, Control, ListenerRecord, OwnerRecord};
use zerocopy::FromZeros;

use crate::{
    access::{Fields, Known, Ptr, Step, TaskFileContext, TcpContext, offset, setting},
    maps::{self, Connection, EndpointKey, OWN_ENDPOINTS},
    scope,
    shared::{Shared, field},
    tcp::{self, state},
};

/// After these, every connection that is older than the program was seen when all of our own ends were known.
const FIRST_PASSES: u32 = 2;
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// One file of one thread.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn task_file(ctx: *mut TaskFileContext) -> i32 {
    let step = Step::task_file(ctx);
    let Some(control) = maps::control() else {
        return 0;
    };
    if field!(control.own_tgid).get() == 0 {
        scope::learn(control);
    }
    if setting!(tcp) != 0
        && field!(control.pass).get() != 0
        && !step.object.is_null()
        && !step.task.is_null()
    {
        // One helper and plain loads where the kernel has it, else a helper call for each field.
        if setting!(sock_from_file) != 0 {
            let sk = step.object.tcp_of_file();
            if !sk.is_null() && !shares_files_with_leader(step.task) {
                visit(&step, sk, control);
            }
        } else {
            let sk = socket_of(step.object.raw());
            if !sk.is_null() && !shares_files_with_leader(step.task) && tcp::is_tcp(sk) {
                visit(&step, sk, control);
            }
        }
    }
    0
}

/// One TCP socket of the network namespace in which the iterator was made: where `task_file` cannot serve.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
fn tcp_sockets(ctx: *mut TcpContext) -> i32 {
    let step = Step::tcp(ctx);
    if !step.object.is_null()
        && let Some(control) = maps::control()
    {
        // Null for TIME_WAIT and half-made requests, which are not struct sock beyond their head.
        let sk = step.object.as_tcp();
        if !sk.is_null() {
            visit(&step, sk, control);
        }
    }
    0
}

#[inline(always)]
fn visit(step: &Step, sk: impl Fields, control: Shared<Control>) {
    let current = u32::from(sk.get::<u8>(offset!(sock_state)));
    if !(state::is_connection(current) || current == state::LISTEN) || !scope::contains(sk) {
        return;
    }
    let own = !step.task.is_null()
        && step.task.get::<u32>(offset!(task_tgid)) == field!(control.own_tgid).get();
    let pass = field!(control.pass).get();
    if current == state::LISTEN {
        if !own {
            let mut record = ListenerRecord::new_zeroed();
            tcp::listener(sk, &mut record, true);
            owner_of(step, sk, &mut record.owner);
            step.write(&record);
        }
    } else if let Some(known) = maps::connection(sk) {
        if field!(known.owner.pid).get() == 0 {
            let mut owner = OwnerRecord::new_zeroed();
            owner_of(step, sk, &mut owner);
            field!(known.owner).store(&owner);
            maps::exclude(known, own);
        }
        if pass <= FIRST_PASSES {
            // The very first pass may have come to the other end of our own connection before it came to ours.
            maps::exclude(known, tcp::is_other_end_of_own(sk));
        }
        if field!(known.excluded).get() == 0 && field!(known.pass).get() != pass {
            // When the reader's buffer is full, the kernel comes back with this socket.
            if tell(step, sk, &known.load()) {
                field!(known.pass).set(pass);
            }
        }
    } else {
        found(step, sk, own, pass);
    }
}

/// Tells it, if it is to be told; false: the reader's buffer is full.
#[inline(always)]
fn tell(step: &Step, sk: impl Fields, connection: &Connection) -> bool {
    tcp::is_unwanted_loopback(sk)
        || maps::with_scratch(|record| {
            tcp::observe(sk, record);
            record.owner = connection.owner;
            record.opened_boot_ns = connection.opened_boot_ns;
            record.role = connection.role;
            step.write(record)
        })
}

/// A connection that is older than the program, or that the full map had refused.
#[inline(always)]
fn found(step: &Step, sk: impl Fields, own: bool, pass: u32) {
    let mut connection = Connection::EMPTY;
    owner_of(step, sk, &mut connection.owner);
    if own {
        let mut key = EndpointKey::EMPTY;
        tcp::local_end(sk, &mut key);
        let _ = OWN_ENDPOINTS.insert(key, 1, 0);
        connection.excluded = 1;
    } else {
        connection.excluded = u8::from(tcp::is_other_end_of_own(sk));
    }
    if connection.excluded == 0 && tell(step, sk, &connection) {
        connection.pass = pass;
    }
    maps::remember(sk, &connection, true);
}

/// Threads mostly share one table of descriptors: the first thread stands for all of them.
#[inline(always)]
fn shares_files_with_leader(task: Known) -> bool {
    let leader = task.pointer(offset!(task_group_leader));
    leader.address() != task.address()
        && leader.get::<u64>(offset!(task_files)) == task.get::<u64>(offset!(task_files))
}

/// struct sock of a file, or null.
#[inline(always)]
pub fn socket_of(file: Ptr) -> Ptr {
    let mode: u16 = file.follow(offset!(file_inode)).read(offset!(inode_mode));
    if mode & S_IFMT != S_IFSOCK {
        return Ptr::NULL;
    }
    let socket = file.follow(offset!(file_private_data));
    if socket.is_null() {
        return Ptr::NULL;
    }
    socket.follow(offset!(socket_sk))
}

/// The owner by the descriptor; without one, what the socket knows of its creator.
#[inline(always)]
fn owner_of(step: &Step, sk: impl Fields, owner: &mut OwnerRecord) {
    if step.task.is_null() {
        tcp::creator(sk, owner);
        return;
    }
    let leader = step.task.pointer(offset!(task_group_leader));
    owner.pid = leader.get(offset!(task_tgid));
    owner.uid = leader.pointer(offset!(task_cred)).get(offset!(cred_uid));
    let comm: [u64; 2] = [
        leader.get(offset!(task_comm)),
        leader.get(offset!(task_comm) + 8),
    ];
    owner.comm = zerocopy::transmute!(comm);
    owner.cgroup_id = 0;
    if offset!(task_cgroups) != ABSENT && offset!(css_set_cgroup) != ABSENT {
        let set = leader.raw().follow(offset!(task_cgroups));
        owner.cgroup_id = tcp::cgroup_id(set.follow(offset!(css_set_cgroup)));
    }
}
