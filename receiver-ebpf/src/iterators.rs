//! One pass over every descriptor of every process: the sockets behind them, with their owners, in all network namespaces; then over
//! the connections that are remembered, for those that no descriptor leads to (held by `io_uring`, by the kernel, on their way between
//! processes, subflows of Multipath TCP). Or, where that cannot be, over the TCP sockets of one network namespace.
//!
//! Runs when user space reads the iterator. A socket that several descriptors share is reported once a pass; one that no process has
//! (still in the accept queue, or closed and lingering) is left to the state changes.

use netflume_ebpf::{ABSENT, Control, ListenerRecord, OwnerRecord, role};
use zerocopy::FromZeros;

use crate::{
    access::{Fields, Known, Ptr, offset, setting},
    connect,
    maps::{self, Connection},
    mptcp, own, scope, sequence,
    shared::{Shared, field},
    socket,
    steps::{EntryContext, Step, TaskFileContext, TcpContext},
    tcp::state,
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
            let sk = step.object.sock_of_file();
            if sk.is_null() || shares_files_with_leader(step.task) {
                return 0;
            }
            let tcp = sk.as_tcp();
            if !tcp.is_null() {
                visit(&step, tcp, control);
            } else if mptcp::is_mptcp(sk) {
                visit_first(&step, sk.raw(), control);
            }
        } else {
            let sk = socket_of(step.object.raw());
            if !sk.is_null() && !shares_files_with_leader(step.task) {
                if socket::is_tcp(sk) {
                    visit(&step, sk, control);
                } else if mptcp::is_mptcp(sk) {
                    visit_first(&step, sk, control);
                }
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

/// One remembered connection: reported if nothing else reported it in this pass, and a process or the kernel still has it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
fn remembered(ctx: *mut EntryContext) -> i32 {
    let step = Step::entry(ctx);
    let (Some(control), Some(known)) = (maps::control(), Step::known(ctx)) else {
        return 0;
    };
    let pass = field!(control.pass).get();
    if field!(known.pass).get() == pass || field!(known.excluded).get() != 0 {
        return 0;
    }
    let sk = Step::socket(ctx);
    let current = u32::from(sk.get::<u8>(offset!(sock_state)));
    if !state::is_connection(current)
        || !socket::is_tcp(sk)
        || sk.follow(offset!(sock_socket)).is_null()
        || !scope::contains(sk)
    {
        return 0;
    }
    if field!(known.owner.pid).get() == 0 {
        // The first look may come before the process that accepts it.
        let seen = field!(known.held);
        if seen.get() == 0 || seen.get() == pass as u16 {
            seen.set(pass as u16);
            return 0;
        }
        inherit(sk, known);
    }
    let connection = known.load();
    // Memory of a socket that was closed in between may be another's: it is forgotten before.
    if maps::connection(sk).is_some() && tell(&step, sk, &connection) {
        maps::seen(known, pass);
    }
    0
}

/// A later subflow of Multipath TCP has the owner of the first; of other sockets only the creator is known.
#[inline(always)]
fn inherit(sk: Ptr, known: Shared<Connection>) {
    let mut owner = OwnerRecord::NONE;
    socket::creator(sk, &mut owner);
    let whole = mptcp::whole(sk);
    if !whole.is_null()
        && let Some(first) = maps::connection(mptcp::first(whole))
    {
        owner = field!(first.owner).load();
    }
    field!(known.owner).store(&owner);
}

/// The TCP socket behind a descriptor of Multipath TCP.
#[inline(always)]
fn visit_first(step: &Step, connection: Ptr, control: Shared<Control>) {
    let sk = mptcp::first(connection);
    if !sk.is_null() {
        visit(step, sk, control);
    }
}

#[inline(always)]
fn visit(step: &Step, sk: impl Fields, control: Shared<Control>) {
    let current = u32::from(sk.get::<u8>(offset!(sock_state)));
    if current == state::CLOSE {
        connect::found_idle(sk, |record| step.write(record));
        return;
    }
    let pass = field!(control.pass).get();
    if current == state::SYN_SENT {
        // Nothing to report yet, and no reason to look for it again.
        if let Some(known) = maps::connection(sk) {
            maps::seen(known, pass);
        }
        return;
    }
    if !(state::is_connection(current) || current == state::LISTEN) || !scope::contains(sk) {
        return;
    }
    let own = !step.task.is_null()
        && step.task.get::<u32>(offset!(task_tgid)) == field!(control.own_tgid).get();
    if current == state::LISTEN {
        if own {
            own::listens(sk, true);
        } else {
            let mut record = ListenerRecord::new_zeroed();
            socket::listener(sk, &mut record, true);
            owner_of(step, sk, &mut record.owner);
            if !step.task.is_null() {
                let leader = step.task.pointer(offset!(task_group_leader));
                record.credentials = socket::credentials(leader.raw(), offset!(task_cred));
            }
            step.write(&record);
        }
    } else if let Some(known) = maps::connection(sk) {
        if step.task.is_null() {
            if field!(known.owner.pid).get() == 0 {
                take_over(step, sk, known);
            }
        } else if is_holders(step.task, known, pass) {
            take_over(step, sk, known);
            field!(known.held).set(pass as u16);
            maps::exclude(known, own);
        }
        if pass <= FIRST_PASSES {
            // The very first pass may have come to the other end of our own connection before it came to ours.
            let role = field!(known.role).get();
            maps::exclude(known, own::is_other_end(sk, role));
        }
        // When the reader's buffer is full, the kernel comes back with this socket.
        if field!(known.pass).get() != pass
            && (field!(known.excluded).get() != 0 || tell(step, sk, &known.load()))
        {
            maps::seen(known, pass);
        }
    } else {
        found(step, sk, own, pass);
    }
}

/// The connection is of the process that was found with it: no other is known to hold it, or its own name has changed (execve).
///
/// A pass comes to processes in the order of their numbers. So an owner with a smaller number that was not seen in this pass has it no
/// more, and one with a larger number if it was not seen in the pass before either.
#[inline(always)]
fn is_holders(task: Known, known: Shared<Connection>, pass: u32) -> bool {
    let process: u32 = task.get(offset!(task_tgid));
    let owner = field!(known.owner.pid).get();
    if process == owner {
        let leader = task.pointer(offset!(task_group_leader));
        let name = field!(known.owner.comm).pointer().cast::<u64>();
        // SAFETY: the two words of the name, which is aligned.
        let [first, second] = unsafe { [Shared::new(name), Shared::new(name.add(1))] };
        field!(known.held).set(pass as u16);
        return first.get() != leader.get::<u64>(offset!(task_comm))
            || second.get() != leader.get::<u64>(offset!(task_comm) + 8);
    }
    let absent = (pass as u16).wrapping_sub(field!(known.held).get());
    owner == 0 || absent > 1 || absent == 1 && process > owner
}

#[inline(always)]
fn take_over(step: &Step, sk: impl Fields, known: Shared<Connection>) {
    let mut owner = OwnerRecord::new_zeroed();
    owner_of(step, sk, &mut owner);
    field!(known.owner).store(&owner);
}

/// Tells it, if it is to be told; false: the reader's buffer is full.
#[inline(always)]
fn tell(step: &Step, sk: impl Fields, connection: &Connection) -> bool {
    socket::is_unwanted_loopback(sk)
        || maps::with_scratch(|record| {
            let state = u32::from(sk.get::<u8>(offset!(sock_state)));
            socket::observe(sk, state, connection.role, record);
            if step.task.is_null() {
                // No descriptor leads to a later subflow.
                mptcp::complete(sk, record);
            }
            record.owner = connection.owner;
            record.opened_boot_ns = connection.opened(state);
            step.write(record)
        })
}

/// A connection that is older than the program, or that the full map had refused.
#[inline(always)]
fn found(step: &Step, sk: impl Fields, own: bool, pass: u32) {
    let mut connection = Connection::EMPTY;
    owner_of(step, sk, &mut connection.owner);
    connection.held = pass as u16;
    connection.role = sequence::role_of(sk);
    connection.excluded = u8::from(own || own::is_other_end(sk, connection.role));
    if own && connection.role != role::SERVER {
        own::connected(sk, connection.role);
    }
    let done = connection.excluded != 0 || tell(step, sk, &connection);
    if maps::remember(sk, &connection, true)
        && done
        && let Some(known) = maps::connection(sk)
    {
        maps::seen(known, pass);
    }
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
fn socket_of(file: Ptr) -> Ptr {
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
        socket::creator(sk, owner);
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
        owner.cgroup_id = socket::cgroup_id(set.follow(offset!(css_set_cgroup)));
    }
}
