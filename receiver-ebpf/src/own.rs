//! Our own traffic, which is left out: what our process connects to and accepts, and the other end of what it connects to where
//! that is on this host.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap},
};

use crate::{
    access::{Fields, offset},
    maps::BPF_F_NO_PREALLOC,
    sequence,
    shared::{Shared, field},
    socket::{copy_address, network_namespace},
};

/// Our own connections, by [`sequence::identity`].
#[map]
pub static OWN_CONNECTIONS: HashMap<u64, u64> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Where we listen.
#[map]
pub static OWN_LISTENERS: HashMap<ListenerKey, u64> =
    HashMap::with_max_entries(64, BPF_F_NO_PREALLOC);

/// One bit a port: we listen, or have listened, on it. Most accepts need to know no more.
#[map]
pub static OWN_PORTS: Array<u64> = Array::with_max_entries(1024, 0);

/// An address and port in a network namespace.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ListenerKey {
    address: [u8; 16],
    port: u32,
    netns: u32,
}

/// `0.0.0.0`, v4-mapped.
const ANY_V4: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];

/// The process is netflume itself.
#[inline(always)]
pub fn is_own(tgid: u32) -> bool {
    match crate::maps::control() {
        Some(control) => {
            let own = field!(control.own_tgid).get();
            own != 0 && own == tgid
        }
        None => false,
    }
}

/// Remembers a connection that is ours, so that its other end is recognised.
#[inline(always)]
pub fn connected(sk: impl Fields, role: u8) {
    let _ = OWN_CONNECTIONS.insert(sequence::identity(sk, role), 1, 0);
}

/// The connection is over.
#[inline(always)]
pub fn ended(sk: impl Fields, role: u8) {
    let _ = OWN_CONNECTIONS.remove(sequence::identity(sk, role));
}

/// The other end of this connection is ours.
#[inline(always)]
pub fn is_other_end(sk: impl Fields, role: u8) -> bool {
    let theirs = sequence::identity(sk, role).rotate_left(32);
    OWN_CONNECTIONS.get_ptr(theirs).is_some()
}

/// Remembers, or forgets, that we listen there.
#[inline(always)]
pub fn listens(sk: impl Fields, listening: bool) {
    let mut key = local_end(sk);
    copy_address(
        sk,
        &mut key.address,
        offset!(sock_rcv_saddr),
        offset!(sock_v6_rcv_saddr),
    );
    if !listening {
        let _ = OWN_LISTENERS.remove(key);
        return;
    }
    let _ = OWN_LISTENERS.insert(key, 1, 0);
    if let Some(word) = OWN_PORTS.get_ptr_mut(key.port >> 6) {
        // SAFETY: a map value.
        let word = unsafe { Shared::new(word) };
        word.set(word.get() | 1 << (key.port & 63));
    }
}

/// The connection came in where we listen.
#[inline(always)]
pub fn accepts(sk: impl Fields) -> bool {
    let mut key = local_end(sk);
    let Some(word) = OWN_PORTS.get_ptr_mut(key.port >> 6) else {
        return false;
    };
    // SAFETY: a map value.
    let word = unsafe { Shared::new(word) };
    if word.get() & 1 << (key.port & 63) == 0 {
        return false;
    }
    copy_address(
        sk,
        &mut key.address,
        offset!(sock_rcv_saddr),
        offset!(sock_v6_rcv_saddr),
    );
    if OWN_LISTENERS.get_ptr(key).is_some() {
        return true;
    }
    key.address = ANY_V4;
    if OWN_LISTENERS.get_ptr(key).is_some() {
        return true;
    }
    key.address = [0; 16];
    OWN_LISTENERS.get_ptr(key).is_some()
}

/// The local port and network namespace; the address is the caller's.
#[inline(always)]
fn local_end(sk: impl Fields) -> ListenerKey {
    ListenerKey {
        address: [0; 16],
        port: u32::from(sk.get::<u16>(offset!(sock_num))),
        netns: network_namespace(sk),
    }
}
