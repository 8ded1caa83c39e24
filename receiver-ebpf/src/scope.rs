//! What is watched: all of the host, or the own pod alone.
//!
//! A pod is its network namespace. One that shares the host's (`hostNetwork`) is told from its neighbours by its cgroup instead.

use netflume_ebpf::{ABSENT, Control};

use crate::{
    access::{Fields, Ptr, current_tgid, offset, setting},
    maps,
    shared::{Shared, field},
    socket,
};

/// More generations than processes have in practice; the first process of the host stands at the end of each.
const GENERATIONS_MAX: u32 = 64;

/// The socket belongs to what is to be watched.
#[inline(always)]
pub fn contains(sk: impl Fields) -> bool {
    let netns = setting!(scope_netns);
    netns == 0 || (netns == u64::from(socket::network_namespace(sk)) && is_of_cgroup(sk.raw()))
}

/// The socket's creator (an accepted socket's is its listener's) lives in the watched cgroup or below. True where there is no such
/// cgroup, and where the socket does not know its own.
#[inline(always)]
fn is_of_cgroup(sk: Ptr) -> bool {
    if offset!(sock_cgroup) == ABSENT || offset!(cgroup_level) == ABSENT {
        return true;
    }
    let Some(control) = maps::control() else {
        return true;
    };
    let watched = field!(control.scope_cgroup).get();
    if watched == 0 {
        return true;
    }
    let cgroup = sk.follow(offset!(sock_cgroup));
    // Before 5.15 the word is something else than a pointer when its lowest bit is set.
    if cgroup.is_null() || cgroup.address() & 1 != 0 {
        return true;
    }
    let level = field!(control.scope_cgroup_level).get();
    cgroup.read::<u32>(offset!(cgroup_level)) >= level && watched == ancestor(cgroup, level)
}

/// Number of the cgroup's ancestor at `level`, at most its own; the root's level is zero.
#[inline(always)]
fn ancestor(cgroup: Ptr, level: u32) -> u64 {
    let place = u64::from(level) * 8;
    if offset!(cgroup_ancestors) != ABSENT {
        socket::cgroup_id(cgroup.plus(place).follow(offset!(cgroup_ancestors)))
    } else {
        cgroup.plus(place).read(offset!(cgroup_ancestor_ids))
    }
}

/// Writes down who the running process is: the reader of an iterator is ourselves, whatever namespaces we live in.
#[inline(always)]
pub fn learn(control: Shared<Control>) {
    field!(control.own_tgid).set(current_tgid());
    let task = Ptr::current_task();
    if offset!(task_real_parent) != ABSENT && offset!(task_nsproxy) != ABSENT {
        let mut first = task;
        for _ in 0..GENERATIONS_MAX {
            let parent = first.follow(offset!(task_real_parent));
            if parent == first || parent.is_null() {
                break;
            }
            first = parent;
        }
        let namespaces = first.follow(offset!(task_nsproxy));
        let net = namespaces.follow(offset!(nsproxy_net_ns));
        field!(control.host_netns).set(net.read(offset!(net_inum)));
    }
    if offset!(task_cgroups) != ABSENT && offset!(cgroup_level) != ABSENT {
        let cgroup = task
            .follow(offset!(task_cgroups))
            .follow(offset!(css_set_cgroup));
        let level: u32 = cgroup.read(offset!(cgroup_level));
        field!(control.own_cgroup_level).set(level);
        field!(control.own_cgroup).set(ancestor(cgroup, level));
        field!(control.parent_cgroup).set(if level > 0 {
            ancestor(cgroup, level - 1)
        } else {
            0
        });
    }
}
