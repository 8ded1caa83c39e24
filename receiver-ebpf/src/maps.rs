//! The maps, and the two ways out of the kernel: the ring and the counters. User space sets the sizes when it loads.

pub use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use netflume_ebpf::{ConnectionRecord, Control, OwnerRecord, counter};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::access::{Fields, setting};
use crate::shared::{Shared, field};
use crate::tcp::state;

/// What is remembered of an open connection, keyed by the socket's address.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Connection {
    /// Who connected, accepted, or was found with it.
    pub owner: OwnerRecord,
    /// CLOCK_BOOTTIME at ESTABLISHED; with [`ATTEMPT`], at SYN_SENT, and it is not known to be established yet. Zero: before the
    /// program watched.
    pub opened_boot_ns: u64,
    /// The last iterator pass that came to it and reported what there was to report.
    pub pass: u32,
    /// [`netflume_ebpf::role`].
    pub role: u8,
    /// One: our own, or the other end of our own; nothing is told.
    pub excluded: u8,
    /// The last pass in which the owner was seen with it, or the one before it opened; the lower half of its number.
    pub held: u16,
}

/// The bit that marks the time of an attempt. No machine runs for the 146 years that reach it.
pub const ATTEMPT: u64 = 1 << 63;

impl Connection {
    /// When it opened, given its state; zero: before the program watched, or not yet. Where the change to ESTABLISHED was missed (the
    /// kernel leaves out a program that interrupts itself), since the attempt.
    #[inline(always)]
    pub fn opened(&self, current: u32) -> u64 {
        let attempted = self.opened_boot_ns & ATTEMPT != 0;
        if attempted && matches!(current, state::SYN_SENT | state::SYN_RECV) {
            return 0;
        }
        self.opened_boot_ns & !ATTEMPT
    }

    /// Nothing known.
    pub const EMPTY: Self = Self {
        owner: OwnerRecord::NONE,
        opened_boot_ns: 0,
        pass: 0,
        role: 0,
        excluded: 0,
        held: 0,
    };
}

/// Records on their way to user space.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1024 * 1024, 0);

/// Open connections by socket address. Memory is taken as connections come, up to the bound.
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// What user space tells while the programs run.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

/// Where an iterator step makes its record: too large for the stack, and only one step runs at a time.
#[map]
pub static SCRATCH: Array<ConnectionRecord> = Array::with_max_entries(1, 0);

/// Totals, by [`counter`].
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::COUNT, 0);

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: u32) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: a map value. It is this CPU's own, but a program that interrupts another one adds to it too.
        unsafe { Shared::new(slot) }.add(1);
    }
}

/// Room for one record in the ring; none when it is full, which is counted. Whoever reserves must fill every field and
/// [`send`] it.
#[inline(always)]
pub fn reserve<T: FromBytes>() -> Option<&'static mut T> {
    // SAFETY: the kernel gives null or that many bytes, aligned to 8, that are ours until they are sent; any bytes are a `T`.
    let room = unsafe {
        generated::bpf_ringbuf_reserve(
            (&raw const EVENTS).cast_mut().cast(),
            size_of::<T>() as u64,
            0,
        )
        .cast::<T>()
        .as_mut()
    };
    if room.is_none() {
        count(counter::RING_FULL);
    }
    room
}

/// Hands a reserved record, now complete, to user space.
///
/// The reader is woken only once enough has piled up, and then each time as much again as a quarter of that: a wake-up costs more
/// than everything else here. It also reads at every interval.
#[inline(always)]
pub fn send<T>(record: &'static mut T) {
    let enough = setting!(wakeup_bytes);
    let waiting = EVENTS.query(0);
    let step = enough / 4;
    let crosses = (waiting & step.wrapping_sub(1)) + size_of::<T>() as u64 >= step;
    let flags = if waiting >= enough && crosses {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    // SAFETY: the record came from `reserve`, which the verifier checks.
    unsafe { generated::bpf_ringbuf_submit(core::ptr::from_mut(record).cast(), u64::from(flags)) };
}

/// The connection of this socket. State changes of one socket are serialised by its lock; the iterator may write `pass` and a
/// missing owner beside them, words whose order does not matter.
#[inline(always)]
pub fn connection(sk: impl Fields) -> Option<Shared<Connection>> {
    let value = CONNECTIONS.get_ptr_mut(sk.address())?;
    // SAFETY: a map value.
    Some(unsafe { Shared::new(value) })
}

/// Leaves a connection out from now on, if `excluded`.
#[inline(always)]
pub fn exclude(connection: Shared<Connection>, excluded: bool) {
    if excluded {
        field!(connection.excluded).set(1);
    }
}

/// Remembers a connection; false: the map is full, which is counted, or (with `only_new`) it is known already.
///
/// What [`counter::REMEMBERED`] has more than [`counter::FORGOTTEN`] is never less than what the map holds: a pass relies on it.
#[inline(always)]
pub fn remember(sk: impl Fields, connection: &Connection, only_new: bool) -> bool {
    count(counter::REMEMBERED);
    let mut result = CONNECTIONS.insert(sk.address(), connection, u64::from(BPF_NOEXIST));
    if result == Err(-EEXIST) && !only_new {
        // Left over from a socket whose end was not seen.
        forget(sk);
        result = CONNECTIONS.insert(sk.address(), connection, u64::from(BPF_NOEXIST));
    }
    if let Err(error) = result {
        count(counter::FORGOTTEN);
        if error != -EEXIST {
            count(counter::CONNECTIONS_FULL);
        }
    }
    result.is_ok()
}

/// Forgets a connection, if it is remembered.
#[inline(always)]
pub fn forget(sk: impl Fields) {
    if CONNECTIONS.remove(sk.address()).is_ok() {
        count(counter::FORGOTTEN);
    }
}

/// The pass came to this connection, and need not come to it again.
#[inline(always)]
pub fn seen(connection: Shared<Connection>, pass: u32) {
    let last = field!(connection.pass);
    if last.get() != pass {
        last.set(pass);
        count(counter::SEEN);
    }
}

pub const EEXIST: i32 = 17;

/// Makes the iterator's record and hands it to `write`; false without one.
#[inline(always)]
pub fn with_scratch(write: impl FnOnce(&mut ConnectionRecord) -> bool) -> bool {
    match SCRATCH.get_ptr_mut(0) {
        // SAFETY: user space reads one iterator at a time, so only this step has the record, and only until `write` returns.
        Some(record) => write(unsafe { &mut *record }),
        None => false,
    }
}

/// What user space told; each word is written by one side.
#[inline(always)]
pub fn control() -> Option<Shared<Control>> {
    let value = CONTROL.get_ptr_mut(0)?;
    // SAFETY: a map value.
    Some(unsafe { Shared::new(value) })
}

/// Number of the newest iterator pass.
#[inline(always)]
pub fn pass() -> u32 {
    match control() {
        Some(control) => field!(control.pass).get(),
        None => 0,
    }
}
