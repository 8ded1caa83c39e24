//! Real connections with known byte counts.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Result, anyhow};

/// What one client and one server of this process did.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// Where the server listened.
    pub server: SocketAddr,
    /// Where the client called from.
    pub client: SocketAddr,
    /// Payload bytes from client to server.
    pub request_bytes: u64,
    /// Payload bytes from server to client.
    pub reply_bytes: u64,
    /// Datagrams each way; zero for TCP.
    pub packets: u64,
}

/// One TCP connection: opens, sends so many bytes each way, closes on both sides before it returns.
///
/// # Errors
/// Those of the sockets.
pub fn tcp(ip: IpAddr, request_bytes: usize, reply_bytes: usize) -> Result<Exchange> {
    let listener = TcpListener::bind((ip, 0))?;
    let server = listener.local_addr()?;
    let serve = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut request = vec![0; request_bytes];
        stream.read_exact(&mut request)?;
        stream.write_all(&vec![2; reply_bytes])?;
        // The client closes first.
        stream.read_to_end(&mut request)?;
        Ok(())
    });
    let mut stream = TcpStream::connect(server)?;
    let client = stream.local_addr()?;
    stream.write_all(&vec![1; request_bytes])?;
    stream.read_exact(&mut vec![0; reply_bytes])?;
    drop(stream);
    serve.join().map_err(|_| anyhow!("the server panicked"))??;
    Ok(Exchange {
        server,
        client,
        request_bytes: request_bytes as u64,
        reply_bytes: reply_bytes as u64,
        packets: 0,
    })
}

/// Datagrams from a connected client to a server that answers each one.
///
/// # Errors
/// Those of the sockets.
pub fn udp(ip: IpAddr, packets: u16, request_bytes: usize, reply_bytes: usize) -> Result<Exchange> {
    let server = chosen_port(ip)?;
    let address = server.local_addr()?;
    let client = UdpSocket::bind((ip, 0))?;
    client.connect(address)?;
    let mut buffer = vec![0; request_bytes.max(reply_bytes) + 1];
    for _ in 0..packets {
        client.send(&vec![1; request_bytes])?;
        let (_, from) = server.recv_from(&mut buffer)?;
        server.send_to(&vec![2; reply_bytes], from)?;
        client.recv(&mut buffer)?;
    }
    Ok(Exchange {
        server: address,
        client: client.local_addr()?,
        request_bytes: u64::from(packets) * request_bytes as u64,
        reply_bytes: u64::from(packets) * reply_bytes as u64,
        packets: u64::from(packets),
    })
}

/// A socket whose port was asked for by number, as a server does; one that the system picked would be a client's.
fn chosen_port(ip: IpAddr) -> Result<UdpSocket> {
    let mut last = None;
    // A port that was free a moment ago may be taken by now: then try the next.
    for _ in 0..5 {
        let port = UdpSocket::bind((ip, 0))?.local_addr()?.port();
        match UdpSocket::bind((ip, port)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow!("no port"), Into::into))
}
