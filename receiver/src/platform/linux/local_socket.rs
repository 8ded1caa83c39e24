//! Unix sockets: addresses within this host, guarded by file permissions.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

pub(crate) use tokio::net::UnixStream as Stream;

/// A listener whose socket goes away with it.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: tokio::net::UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, for root and its group. Its folder is made, and a socket that nobody listens at any more is replaced. Must be
    /// called within the runtime.
    ///
    /// # Errors
    /// Another process listens there, something other than a socket is there, or the file system refuses.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if let Ok(there) = std::fs::symlink_metadata(path) {
            // What an earlier run left behind refuses connections; what still answers belongs to another process.
            if !there.file_type().is_socket()
                || std::os::unix::net::UnixStream::connect(path).is_ok()
            {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)?;
        }
        let listener = Self {
            listener: tokio::net::UnixListener::bind(path)?,
            path: path.to_owned(),
        };
        // As the Cilium agent's own.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(listener)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.listener.poll_accept(cx).map_ok(|(stream, _)| stream)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another process may have removed it already.
        drop(std::fs::remove_file(&self.path));
    }
}
