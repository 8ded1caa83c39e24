//! The one place with `unsafe` access to kernel memory; everything it offers is safe to call with any value.
//!
//! Reads go through `bpf_probe_read_kernel`, which checks the address and fills the destination with zeros when it cannot be
//! read, so a wrong pointer gives zeros, never a fault.

use core::mem::MaybeUninit;

use aya_ebpf::{
    Global,
    helpers::generated,
    programs::{BtfTracePointContext, FExitContext, SockAddrContext},
};
use netflume_ebpf::{Offsets, OwnerRecord, Settings};
use zerocopy::FromBytes;

/// Offsets of kernel fields, set by the loader.
#[unsafe(no_mangle)]
pub static OFFSETS: Global<Offsets> = Global::new(Offsets::NONE);

/// Settings, set by the loader.
#[unsafe(no_mangle)]
pub static SETTINGS: Global<Settings> = Global::new(Settings {
    scope_netns: 0,
    skip_loopback: 0,
    tcp: 1,
    udp: 1,
    wakeup_bytes: 0,
    sock_from_file: 0,
    userlocks_shift: 0,
    call_sendto: 0,
    call_sendmsg: 0,
    call_recvmsg: 0,
    udp_merge_from: u64::MAX,
});

/// One field of [`OFFSETS`]: a constant for the verifier.
macro_rules! offset {
    ($field:ident) => {{
        let all = (&raw const $crate::access::OFFSETS).cast::<netflume_ebpf::Offsets>();
        // SAFETY: `Global<T>` is transparent over a `T` that is always initialised; the field lies within it.
        unsafe { core::ptr::read_volatile(&raw const (*all).$field) }
    }};
}
pub(crate) use offset;

/// One field of [`SETTINGS`]: a constant for the verifier.
macro_rules! setting {
    ($field:ident) => {{
        let all = (&raw const $crate::access::SETTINGS).cast::<netflume_ebpf::Settings>();
        // SAFETY: `Global<T>` is transparent over a `T` that is always initialised; the field lies within it.
        unsafe { core::ptr::read_volatile(&raw const (*all).$field) }
    }};
}
pub(crate) use setting;

/// An address in the kernel, never dereferenced directly.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ptr(u64);

impl Ptr {
    /// No address.
    pub const NULL: Self = Self(0);

    /// The `n`th argument of a BTF tracepoint, a pointer.
    #[inline(always)]
    pub fn argument(ctx: &BtfTracePointContext, n: usize) -> Self {
        Self(ctx.arg::<u64>(n))
    }

    /// An argument that the kernel passed.
    #[inline(always)]
    pub fn new(address: u64) -> Self {
        Self(address)
    }

    /// A later address.
    #[inline(always)]
    pub fn plus(self, bytes: impl Into<u64>) -> Self {
        Self(self.0.wrapping_add(bytes.into()))
    }

    /// The argument again, for a helper that wants the kernel's own pointer.
    #[inline(always)]
    pub fn as_argument(self) -> *mut core::ffi::c_void {
        self.0 as *mut _
    }

    /// The value at `offset` bytes of an argument whose type the kernel knows: one instruction. The verifier refuses it for any
    /// other pointer and beyond the structure; where the memory is gone it gives zeros.
    #[inline(always)]
    pub fn load<T: FromBytes>(self, offset: u32) -> T {
        // SAFETY: the verifier admits the load only within a structure that it knows; any bytes are a valid `T`.
        unsafe { core::ptr::read_volatile((self.0 as *const u8).add(offset as usize).cast::<T>()) }
    }

    /// The `n`th argument of a traced function, a pointer.
    #[inline(always)]
    pub fn traced(ctx: &FExitContext, n: usize) -> Self {
        Self(ctx.arg::<u64>(n))
    }

    /// struct task_struct of the running task.
    #[inline(always)]
    pub fn current_task() -> Self {
        // SAFETY: no arguments.
        Self(unsafe { generated::bpf_get_current_task() })
    }

    /// The number, as an identity.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The value at `offset` bytes; zeros if it cannot be read.
    #[inline(always)]
    pub fn read<T: FromBytes>(self, offset: u32) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper checks the source and fills all of the destination in every case; any bytes are a valid `T`.
        unsafe {
            generated::bpf_probe_read_kernel(
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                self.0.wrapping_add(u64::from(offset)) as *const _,
            );
            value.assume_init()
        }
    }

    /// Copies the value at `offset` bytes to where it is to stay; zeros if it cannot be read.
    #[inline(always)]
    pub fn copy<T: FromBytes>(self, offset: u32, destination: &mut T) {
        // SAFETY: the helper checks the source and fills all of the destination in every case; any bytes are a valid `T`.
        unsafe {
            generated::bpf_probe_read_kernel(
                core::ptr::from_mut(destination).cast(),
                size_of::<T>() as u32,
                self.0.wrapping_add(u64::from(offset)) as *const _,
            );
        }
    }

    /// The pointer at `offset` bytes.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Self {
        Self(self.read(offset))
    }
}

/// Fields of a kernel structure, read in one of two ways.
pub trait Fields: Copy {
    /// The value at `offset` bytes; zeros if it cannot be read.
    fn get<T: FromBytes>(self, offset: u32) -> T;

    /// The structure that the pointer at `offset` bytes points to.
    fn pointer(self, offset: u32) -> Self;

    /// The address alone: nothing is known of what lies there.
    fn raw(self) -> Ptr;

    /// The number, as an identity.
    #[inline(always)]
    fn address(self) -> u64 {
        self.raw().address()
    }

    #[inline(always)]
    fn is_null(self) -> bool {
        self.address() == 0
    }
}

/// By a helper call for each field, which checks the address.
impl Fields for Ptr {
    #[inline(always)]
    fn get<T: FromBytes>(self, offset: u32) -> T {
        self.read(offset)
    }

    #[inline(always)]
    fn pointer(self, offset: u32) -> Self {
        self.follow(offset)
    }

    #[inline(always)]
    fn raw(self) -> Ptr {
        self
    }
}

/// A pointer whose type the kernel knows: a field is one instruction, a twentieth of the helper's cost. The verifier refuses any
/// access outside the structure; where the memory is gone, the kernel gives zeros.
#[derive(Clone, Copy)]
pub struct Known(u64);

impl Known {
    /// No structure.
    pub const NULL: Self = Self(0);

    /// The TCP socket that the first argument of a BTF tracepoint is; null if it is something else.
    #[inline(always)]
    pub fn tcp_argument(ctx: &BtfTracePointContext) -> Self {
        Self::tcp(ctx.arg::<u64>(0))
    }

    /// struct tcp_sock of a struct sock (5.9 and later); null for other protocols, and for what is no full socket.
    #[inline(always)]
    fn tcp(sk: u64) -> Self {
        // SAFETY: the verifier admits only a socket that it knows.
        Self(unsafe { generated::bpf_skc_to_tcp_sock(sk as *mut _) } as u64)
    }

    /// The TCP socket of a cgroup hook's call; null if it is another one.
    #[inline(always)]
    pub fn tcp_of_hook(ctx: &SockAddrContext) -> Self {
        // SAFETY: the kernel passes a valid context, and the verifier checks the access.
        let socket = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
        Self::tcp(socket as u64)
    }

    /// struct tcp_sock of this struct sock_common.
    #[inline(always)]
    pub fn as_tcp(self) -> Self {
        Self::tcp(self.0)
    }

    /// struct sock of a struct file (5.11 and later); null if it is no socket.
    #[inline(always)]
    pub fn sock_of_file(self) -> Self {
        // SAFETY: the verifier admits only a file that it knows.
        let socket = Self(unsafe { generated::bpf_sock_from_file(self.0 as *mut _) } as u64);
        if socket.is_null() {
            return Self::NULL;
        }
        socket.pointer(offset!(socket_sk))
    }

    /// A pointer that an iterator's context holds.
    #[inline(always)]
    pub fn of_context(pointer: u64) -> Self {
        Self(pointer)
    }
}

impl Fields for Known {
    #[inline(always)]
    fn get<T: FromBytes>(self, offset: u32) -> T {
        // SAFETY: the verifier admits the load only within a structure that it knows; any bytes are a valid `T`.
        unsafe { core::ptr::read_volatile((self.0 as *const u8).add(offset as usize).cast::<T>()) }
    }

    #[inline(always)]
    fn pointer(self, offset: u32) -> Self {
        Self(self.get(offset))
    }

    #[inline(always)]
    fn raw(self) -> Ptr {
        Ptr(self.0)
    }
}

/// CLOCK_BOOTTIME, nanoseconds.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: no arguments.
    unsafe { generated::bpf_ktime_get_boot_ns() }
}

/// The running process (tgid). Only in process context is it the one that caused the event.
#[inline(always)]
pub fn current_tgid() -> u32 {
    (aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32) as u32
}

/// Bit of `task_struct.flags`, include/linux/sched.h: a thread of the kernel.
const PF_KTHREAD: u32 = 0x0020_0000;

/// The running process, in full; all zero for a thread of the kernel, which acts for somebody else.
#[inline(always)]
pub fn current_owner(owner: &mut OwnerRecord) {
    if Ptr::current_task().read::<u32>(offset!(task_flags)) & PF_KTHREAD != 0 {
        *owner = OwnerRecord::NONE;
        return;
    }
    let ids = aya_ebpf::helpers::bpf_get_current_pid_tgid();
    owner.pid = (ids >> 32) as u32;
    owner.uid = aya_ebpf::helpers::bpf_get_current_uid_gid() as u32;
    // SAFETY: no arguments.
    owner.cgroup_id = unsafe { generated::bpf_get_current_cgroup_id() };
    // The process's name is its first thread's; other threads may have names of their own.
    if owner.pid == ids as u32 {
        // SAFETY: the helper fills exactly the given length.
        unsafe { generated::bpf_get_current_comm(owner.comm.as_mut_ptr().cast(), 16) };
        return;
    }
    Ptr::current_task()
        .follow(offset!(task_group_leader))
        .copy(offset!(task_comm), &mut owner.comm);
}

/// Registers of the running system call.
#[inline(always)]
pub fn current_registers() -> Ptr {
    // SAFETY: the first has no arguments, the second takes what the first gives.
    unsafe { Ptr(generated::bpf_task_pt_regs(generated::bpf_get_current_task_btf()) as u64) }
}

/// The value at an address of the running process; zeros if it cannot be read.
#[inline(always)]
pub fn read_user<T: FromBytes>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the source and fills all of the destination in every case; any bytes are a valid `T`.
    unsafe {
        generated::bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        );
        value.assume_init()
    }
}

/// IPv4 address and port (network byte order) of a cgroup hook's message.
#[inline(always)]
pub fn hook_address4(ctx: &SockAddrContext) -> (u32, u16) {
    // SAFETY: the kernel passes a valid context, and the verifier checks each access.
    unsafe {
        let hook = ctx.sock_addr;
        ((*hook).user_ip4, (*hook).user_port as u16)
    }
}

/// The socket of a cgroup hook.
#[inline(always)]
pub fn hook_socket(ctx: &SockAddrContext) -> Ptr {
    // SAFETY: as above.
    Ptr(unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk } as u64)
}

/// IPv6 address, in words, and port (network byte order) of a cgroup hook's message.
#[inline(always)]
pub fn hook_address6(ctx: &SockAddrContext) -> ([u32; 4], u16) {
    // SAFETY: as above.
    unsafe {
        let hook = ctx.sock_addr;
        let word = |n: usize| core::ptr::read_volatile(&raw const (*hook).user_ip6[n]);
        (
            [word(0), word(1), word(2), word(3)],
            (*hook).user_port as u16,
        )
    }
}
