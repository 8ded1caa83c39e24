//! Unix sockets, which neither the standard library nor tokio offers on Windows: every use is refused, and no value of these types exists.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

fn unsupported() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "unix sockets are not supported on Windows",
    )
}

/// Why no connection to the socket at `path` could be made, as a sentence that names the path.
pub(crate) fn explain(path: &Path, error: &io::Error, _owner: &str) -> String {
    format!("{}: {error}", path.display())
}

/// A listener.
#[derive(Debug)]
pub(crate) enum Listener {}

impl Listener {
    /// # Errors
    /// Always.
    pub(crate) fn bind(_: &Path) -> io::Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn path(&self) -> &Path {
        match *self {}
    }

    pub(crate) fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        match *self {}
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {}

impl Stream {
    /// # Errors
    /// Always.
    pub(crate) async fn connect(_: &Path) -> io::Result<Self> {
        Err(unsupported())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}
