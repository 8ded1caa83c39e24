//! Steps of the kernel's iterators: what a program is given, and how it answers its reader.

use aya_ebpf::helpers::generated;
use zerocopy::{Immutable, IntoBytes};

use crate::{
    access::{Known, Ptr},
    maps::Connection,
    shared::Shared,
};

/// The context of an `iter/task_file` program (`struct bpf_iter__task_file` of kernel/bpf/task_iter.c).
#[repr(C)]
pub struct TaskFileContext {
    meta: *const IterMeta,
    task: u64,
    fd: u32,
    file: u64,
}

/// The context of an `iter/tcp` program (`struct bpf_iter__tcp` of net/ipv4/tcp_ipv4.c).
#[repr(C)]
pub struct TcpContext {
    meta: *const IterMeta,
    socket: u64,
}

/// The context of an `iter/bpf_map_elem` program (`struct bpf_iter__bpf_map_elem` of kernel/bpf/map_iter.c).
#[repr(C)]
pub struct EntryContext {
    meta: *const IterMeta,
    map: u64,
    key: *const u64,
    value: *mut Connection,
}

#[repr(C)]
struct IterMeta {
    seq: *mut aya_ebpf::bindings::seq_file,
}

/// One step of an iterator.
#[derive(Clone, Copy)]
pub struct Step {
    seq: *mut aya_ebpf::bindings::seq_file,
    /// struct task_struct whose descriptor it is; null where the iterator does not know.
    pub task: Known,
    /// struct file, or struct sock_common; null at the end.
    pub object: Known,
}

impl Step {
    /// One descriptor of one thread.
    #[inline(always)]
    pub fn task_file(ctx: *mut TaskFileContext) -> Self {
        // SAFETY: the kernel passes a valid context, and the verifier checks each of these accesses against its layout.
        unsafe {
            Self {
                seq: (*(*ctx).meta).seq,
                task: Known::of_context((*ctx).task),
                object: Known::of_context((*ctx).file),
            }
        }
    }

    /// One TCP socket.
    #[inline(always)]
    pub fn tcp(ctx: *mut TcpContext) -> Self {
        // SAFETY: as above.
        unsafe {
            Self {
                seq: (*(*ctx).meta).seq,
                task: Known::NULL,
                object: Known::of_context((*ctx).socket),
            }
        }
    }

    /// One entry of the map of connections.
    #[inline(always)]
    pub fn entry(ctx: *mut EntryContext) -> Self {
        // SAFETY: as above.
        unsafe {
            Self {
                seq: (*(*ctx).meta).seq,
                task: Known::NULL,
                object: Known::NULL,
            }
        }
    }

    /// The socket of the entry; null at the end.
    #[inline(always)]
    pub fn socket(ctx: *mut EntryContext) -> Ptr {
        // SAFETY: as above; the key is one of the map that the iterator was made for.
        unsafe {
            let key = (*ctx).key;
            if key.is_null() {
                return Ptr::NULL;
            }
            Ptr::new(key.read_volatile())
        }
    }

    /// What is remembered of it; none at the end.
    #[inline(always)]
    pub fn known(ctx: *mut EntryContext) -> Option<Shared<Connection>> {
        // SAFETY: as above, for the value.
        unsafe {
            let value = (*ctx).value;
            if value.is_null() {
                return None;
            }
            Some(Shared::new(value))
        }
    }

    /// Hands one record to the reader; false: its buffer is full, and the kernel will come back with the same file.
    #[inline(always)]
    pub fn write<T: IntoBytes + Immutable>(&self, record: &T) -> bool {
        // SAFETY: `seq` comes from the context, the record is initialised memory of the given length.
        unsafe {
            generated::bpf_seq_write(
                self.seq,
                core::ptr::from_ref(record).cast(),
                size_of::<T>() as u32,
            ) == 0
        }
    }
}
