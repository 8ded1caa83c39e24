//! The least of `io_uring` (include/uapi/linux/io_uring.h): one operation at a time, and sockets that only the ring holds.

use std::io::Error;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::sockets::raw;

const OP_CONNECT: u8 = 16;
const REGISTER_FILES: u32 = 2;
const GET_EVENTS: u32 = 1;
const OFFSET_ENTRIES: i64 = 0x1000_0000;
const ENTRY_BYTES: usize = 64;

/// A ring with room for a few operations.
pub(crate) struct Ring {
    descriptor: OwnedFd,
    queues: Mapping,
    entries: Mapping,
    parameters: Parameters,
}

/// `struct io_uring_params`.
#[derive(Default)]
#[repr(C)]
struct Parameters {
    sq_entries: u32,
    cq_entries: u32,
    others: [u32; 8],
    /// head, tail, ring_mask, ring_entries, flags, dropped, array; then nothing of interest.
    sq: [u32; 10],
    /// head, tail, ring_mask, ring_entries, overflow, cqes; then nothing of interest.
    cq: [u32; 10],
}

impl Ring {
    pub(crate) fn new() -> Self {
        let mut parameters = Parameters::default();
        // SAFETY: a valid `struct io_uring_params`; the result is checked and owned by nothing else.
        let descriptor = unsafe {
            let result = libc::syscall(libc::SYS_io_uring_setup, 4, &raw mut parameters);
            assert!(result >= 0, "io_uring_setup: {}", Error::last_os_error());
            OwnedFd::from_raw_fd(result.try_into().unwrap())
        };
        let completions = parameters.cq[5] as usize + 16 * parameters.cq_entries as usize;
        let submissions = parameters.sq[6] as usize + 4 * parameters.sq_entries as usize;
        Self {
            queues: Mapping::new(&descriptor, 0, completions.max(submissions)),
            entries: Mapping::new(&descriptor, OFFSET_ENTRIES, ENTRY_BYTES * 4),
            descriptor,
            parameters,
        }
    }

    /// Connects, and waits for the end of it.
    pub(crate) fn connect(&self, socket: &TcpStream, to: SocketAddr) -> Result<(), Error> {
        let (address, length) = raw(to);
        let mut entry = [0_u8; ENTRY_BYTES];
        entry[0] = OP_CONNECT;
        entry[4..8].copy_from_slice(&socket.as_raw_fd().to_ne_bytes());
        entry[8..16].copy_from_slice(&u64::from(length).to_ne_bytes());
        entry[16..24].copy_from_slice(&(&raw const address as u64).to_ne_bytes());
        match self.run(&entry) {
            0.. => Ok(()),
            error => Err(Error::from_raw_os_error(-error)),
        }
    }

    /// Takes sockets into the ring's own table; the descriptors may be closed then.
    pub(crate) fn register(&self, sockets: &[&TcpStream]) {
        let descriptors: Vec<i32> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
        // SAFETY: an array of that many descriptors.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.descriptor.as_raw_fd(),
                REGISTER_FILES,
                descriptors.as_ptr(),
                descriptors.len(),
            )
        };
        assert_eq!(result, 0, "io_uring_register: {}", Error::last_os_error());
    }

    /// Runs one operation; its result.
    fn run(&self, entry: &[u8; ENTRY_BYTES]) -> i32 {
        let Parameters { sq, cq, .. } = &self.parameters;
        let tail = self.queues.word(sq[1]);
        let place = tail.load(Ordering::Acquire) & self.queues.word(sq[2]).load(Ordering::Relaxed);
        // SAFETY: a place of the submission queue, which the kernel does not look at before the tail has moved.
        unsafe {
            let to = self.entries.at(place as usize * ENTRY_BYTES);
            std::ptr::copy_nonoverlapping(entry.as_ptr(), to, ENTRY_BYTES);
        }
        let index = self.queues.word(sq[6] + place * 4);
        index.store(place, Ordering::Relaxed);
        tail.fetch_add(1, Ordering::Release);
        // SAFETY: no pointers.
        let submitted = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.descriptor.as_raw_fd(),
                1,
                1,
                GET_EVENTS,
                std::ptr::null::<libc::sigset_t>(),
                0,
            )
        };
        assert_eq!(submitted, 1, "io_uring_enter: {}", Error::last_os_error());
        let head = self.queues.word(cq[0]);
        assert_ne!(
            head.load(Ordering::Relaxed),
            self.queues.word(cq[1]).load(Ordering::Acquire)
        );
        let place = head.load(Ordering::Relaxed) & self.queues.word(cq[2]).load(Ordering::Relaxed);
        // `struct io_uring_cqe`: user_data, then the result.
        let result = self.queues.word(cq[5] + place * 16 + 8);
        let result = result.load(Ordering::Relaxed).cast_signed();
        head.fetch_add(1, Ordering::Release);
        result
    }
}

/// Memory that is shared with the kernel.
struct Mapping {
    start: *mut u8,
    bytes: usize,
}

impl Mapping {
    fn new(ring: &OwnedFd, offset: i64, bytes: usize) -> Self {
        // SAFETY: a new mapping, at no fixed place.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                ring.as_raw_fd(),
                offset,
            )
        };
        assert_ne!(start, libc::MAP_FAILED, "mmap: {}", Error::last_os_error());
        Self {
            start: start.cast(),
            bytes,
        }
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.bytes);
        self.start.wrapping_add(offset)
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: within the mapping, aligned as the kernel laid it out; both sides use atomic accesses.
        unsafe { AtomicU32::from_ptr(self.at(offset as usize).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of that length.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}
