//! Where the Observer API listens: an endpoint's text into accepted connections, of which at most a configured number live.
//!
//! TLS is shaken hands here, beside the other connections, with the certificates as they are when a client comes.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::ObserverError;
use super::tls::Certificates;
use crate::platform::local_socket;

/// For a client to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

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
    pub(super) fn connections(self, limit: usize, tls: Option<Certificates>) -> Connections {
        Connections {
            listener: self,
            permits: Arc::new(Semaphore::new(limit)),
            tls,
            handshakes: JoinSet::new(),
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(socket, _)| {
                // Small answers go out at once; without it they go out later.
                drop(socket.set_nodelay(true));
                Socket::Tcp(socket)
            }),
            Self::Unix(unix) => unix.poll_accept(cx).map_ok(Socket::Unix),
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
    tls: Option<Certificates>,
    /// Clients that are not through with theirs; `None` of those that failed.
    handshakes: JoinSet<Option<Connection>>,
}

impl Stream for Connections {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            while let Poll::Ready(Some(shaken)) = self.handshakes.poll_join_next(cx) {
                if let Ok(Some(connection)) = shaken {
                    return Poll::Ready(Some(Ok(connection)));
                }
            }
            let socket = match self.listener.poll_accept(cx) {
                Poll::Ready(Ok(socket)) => socket,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => return Poll::Pending,
            };
            let Ok(permit) = self.permits.clone().try_acquire_owned() else {
                continue;
            };
            let connection = |socket| Connection {
                socket,
                _permit: permit,
            };
            match (&self.tls, socket) {
                (Some(certificates), Socket::Tcp(socket)) => {
                    let acceptor = TlsAcceptor::from(certificates.current());
                    self.handshakes.spawn(async move {
                        let shaking = acceptor.accept(socket);
                        match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await {
                            Ok(Ok(stream)) => Some(connection(Socket::Tls(Box::new(stream)))),
                            Ok(Err(error)) => {
                                tracing::debug!(%error, "an Observer API client failed its TLS handshake");
                                None
                            }
                            Err(_) => None,
                        }
                    });
                }
                (_, socket) => return Poll::Ready(Some(Ok(connection(socket)))),
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
    Tls(Box<TlsStream<TcpStream>>),
    Unix(local_socket::Stream),
}

/// Our end of a TCP connection: an address at which its client reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Local(pub(super) Option<SocketAddr>);

impl Connected for Connection {
    type ConnectInfo = Local;

    fn connect_info(&self) -> Self::ConnectInfo {
        Local(match &self.socket {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            Socket::Tls(stream) => stream.get_ref().0.local_addr().ok(),
            Socket::Unix(_) => None,
        })
    }
}

macro_rules! socket {
    ($connection:expr, $socket:ident => $call:expr) => {
        match &mut $connection.get_mut().socket {
            Socket::Tcp($socket) => $call,
            Socket::Tls($socket) => $call,
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
