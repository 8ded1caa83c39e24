//! Network namespaces: what a test does in one of its own is all that happens there.

#![allow(
    clippy::unwrap_used,
    reason = "used by tests alone: a panic is how they fail"
)]

use std::os::fd::AsRawFd as _;

/// Runs `work` in a network namespace of its own; its loopback is up, it has no route to anywhere else.
///
/// # Panics
/// Without the right to make one, and with `work`.
pub fn in_new_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: concerns this thread alone.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "unshare: {}", std::io::Error::last_os_error());
            loopback_up();
            work()
        });
        thread
            .join()
            .unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}

/// Switches on the loopback interface of the thread's network namespace, which a new one has off.
///
/// # Panics
/// Without the right to.
pub fn loopback_up() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: all of a `ifreq` may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap();
    // SAFETY: the request is a valid `ifreq`. The number's type differs between the C libraries.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw mut request,
        )
    };
    assert_eq!(result, 0, "lo up: {}", std::io::Error::last_os_error());
}
