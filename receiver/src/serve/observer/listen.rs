//! Where the Observer API listens: an endpoint's text into accepted connections, of which at most a configured number live.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::ObserverError;
use crate::platform::local_socket;

/// A bound listener.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(local_socket::Listener),
}

impl Listener {
    /// Listens on `host:port` or `unix:///path`. Without TLS, TCP is only for this host.
    pub(super) async fn bind(endpoint: &str, has_tls: bool) -> Result<Self, ObserverError> {
        if let Some(path) = endpoint.strip_prefix("unix:") {
            // `unix:///path` and `unix:/path`.
            let path = path.strip_prefix("//").unwrap_or(path);
            return bind_unix(Path::new(path), has_tls);
        }
        let failed = |source| ObserverError::Listen {
            endpoint: endpoint.to_owned(),
            source,
        };
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(endpoint)
            .await
            .map_err(failed)?
            .collect();
        if !has_tls
            && addresses
                .iter()
                .any(|address| !address.ip().to_canonical().is_loopback())
        {
            return Err(ObserverError::PlainTextBeyondLoopback(endpoint.to_owned()));
        }
        TcpListener::bind(&*addresses)
            .await
            .map(Self::Tcp)
            .map_err(failed)
    }

    /// What clients put into `--server`: with the port that was really taken.
    pub(super) fn endpoint(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(listener) => listener.local_addr()?.to_string(),
            Self::Unix(listener) => format!("unix://{}", listener.path().display()),
        })
    }

    /// The connections, of which at most `limit` live at a time; further ones are closed at once.
    pub(super) fn connections(self, limit: usize) -> Connections {
        Connections {
            listener: self,
            permits: Arc::new(Semaphore::new(limit)),
        }
    }
}

fn bind_unix(path: &Path, has_tls: bool) -> Result<Listener, ObserverError> {
    if has_tls {
        return Err(ObserverError::TlsOnUnix);
    }
    local_socket::Listener::bind(path)
        .map(Listener::Unix)
        .map_err(|source| ObserverError::Listen {
            endpoint: format!("unix://{}", path.display()),
            source,
        })
}

/// Accepted connections.
#[derive(Debug)]
pub(super) struct Connections {
    listener: Listener,
    permits: Arc<Semaphore>,
}

impl Stream for Connections {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let socket = match &self.listener {
                Listener::Tcp(listener) => ready!(listener.poll_accept(cx)).map(|(socket, _)| {
                    // Small answers go out at once; without it they go out later.
                    drop(socket.set_nodelay(true));
                    Socket::Tcp(socket)
                }),
                Listener::Unix(unix) => ready!(unix.poll_accept(cx)).map(Socket::Unix),
            };
            let socket = match socket {
                Ok(socket) => socket,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            if let Ok(permit) = self.permits.clone().try_acquire_owned() {
                return Poll::Ready(Some(Ok(Connection {
                    socket,
                    _permit: permit,
                })));
            }
        }
    }
}

/// A connection that counts against the limit as long as it lives.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(local_socket::Stream),
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

macro_rules! socket {
    ($connection:expr, $socket:ident => $call:expr) => {
        match &mut $connection.get_mut().socket {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        socket!(self, socket => Pin::new(socket).poll_read(cx, to))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        socket!(self, socket => Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        socket!(self, socket => Pin::new(socket).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
