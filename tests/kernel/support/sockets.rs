//! Sockets in states that the standard library does not offer.

use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::set_option;

/// A TCP socket of the address's family that did nothing yet.
pub(crate) fn tcp(of: SocketAddr) -> TcpStream {
    let family = if of.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    stream(family, libc::IPPROTO_TCP)
}

/// A stream socket of this protocol.
pub(crate) fn stream(family: i32, protocol: i32) -> TcpStream {
    // SAFETY: no pointers; the result is checked, and nothing else owns it.
    unsafe {
        let descriptor = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, protocol);
        assert!(descriptor >= 0, "socket: {}", Error::last_os_error());
        TcpStream::from_raw_fd(descriptor)
    }
}

/// A TCP socket that is bound to `address`, and the address it got. Others may bind to the same.
pub(crate) fn bound(address: &str) -> (TcpStream, SocketAddr) {
    let address = address.parse().unwrap();
    let socket = tcp(address);
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1_i32);
    bind(&socket, address).unwrap();
    let bound = socket.local_addr().unwrap();
    (socket, bound)
}

/// A listener on a port that others listen on too, each with a socket of its own.
pub(crate) fn listener_in_group(address: SocketAddr) -> TcpListener {
    let socket = tcp(address);
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, &1_i32);
    bind(&socket, address).unwrap();
    // SAFETY: no pointers.
    check(unsafe { libc::listen(socket.as_raw_fd(), 128) }).unwrap();
    TcpListener::from(OwnedFd::from(socket))
}

pub(crate) fn bind(socket: &TcpStream, address: SocketAddr) -> Result<(), Error> {
    let (raw, length) = raw(address);
    // SAFETY: a valid address of this length.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const raw).cast(), length) })
}

pub(crate) fn connect(socket: &TcpStream, to: SocketAddr) -> Result<(), Error> {
    let (raw, length) = raw(to);
    // SAFETY: as above.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), length) })
}

/// Connects and does not wait for the end of it.
pub(crate) fn begin_connect(socket: &TcpStream, to: SocketAddr) {
    socket.set_nonblocking(true).unwrap();
    let error = connect(socket, to).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{error}");
}

/// Whether the socket has a peer.
pub(crate) fn is_connected(socket: &TcpStream) -> bool {
    match socket.peer_addr() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NotConnected => false,
        Err(error) => panic!("{error}"),
    }
}

/// Connects with data in the SYN (TCP Fast Open); a socket that does not wait may still be connecting afterwards.
pub(crate) fn fast_open(socket: &TcpStream, to: SocketAddr, data: &[u8]) {
    match try_fast_open(socket, to, data) {
        Ok(sent) => assert_eq!(sent, data.len()),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{error}"),
    }
}

pub(crate) fn try_fast_open(
    socket: &TcpStream,
    to: SocketAddr,
    data: &[u8],
) -> Result<usize, Error> {
    let (raw, length) = raw(to);
    // SAFETY: valid data and a valid address, both of the given lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            libc::MSG_FASTOPEN,
            (&raw const raw).cast(),
            length,
        )
    };
    usize::try_from(sent).map_err(|_| Error::last_os_error())
}

/// The protocol that the socket speaks (`SO_PROTOCOL`).
pub(crate) fn protocol(socket: &TcpStream) -> i32 {
    let mut protocol = 0;
    let mut length = 4;
    // SAFETY: a buffer of that length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PROTOCOL,
            (&raw mut protocol).cast(),
            &raw mut length,
        )
    };
    check(result).unwrap();
    protocol
}

/// What the kernel has about a TCP socket.
pub(crate) fn tcp_info(socket: &TcpStream) -> libc::tcp_info {
    // SAFETY: all of it may be zero.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).unwrap();
    // SAFETY: a buffer of that length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    check(result).unwrap();
    info
}

fn check(result: i32) -> Result<(), Error> {
    if result == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

/// The kernel's form of an address.
pub(crate) fn raw(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all of it may be zero.
    let mut raw: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(address) => {
            let v4 = libc::sockaddr_in {
                sin_family: 2,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage holds every kind of address.
            unsafe { (&raw mut raw).cast::<libc::sockaddr_in>().write(v4) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let v6 = libc::sockaddr_in6 {
                sin6_family: 10,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut raw).cast::<libc::sockaddr_in6>().write(v6) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (raw, libc::socklen_t::try_from(length).unwrap())
}
