//! Unix sockets: addresses within this host, guarded by file permissions.

use std::fs::FileType;
use std::io::{self, ErrorKind};
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
    /// Listens at `path`, for root and its group. Its folder is made, and a socket without a listener is replaced. Must be
    /// called within the runtime.
    ///
    /// # Errors
    /// Another process listens there, something other than a socket is there, or the file system refuses.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                let what = kind(there.file_type());
                return Err(io::Error::new(
                    ErrorKind::AddrInUse,
                    format!("{what} is in its place, which is left alone"),
                ));
            }
            // What an earlier run left behind refuses connections; what still answers belongs to another process.
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(ErrorKind::AddrInUse.into());
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

/// Why no connection to the socket at `path` could be made, as a sentence that names the path. `owner`: who should listen there.
pub(crate) fn explain(path: &Path, error: &io::Error, owner: &str) -> String {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!("no socket at {shown}: is {owner} running here?"),
        ErrorKind::PermissionDenied => {
            format!("{shown}: permission denied: run as root, or as a member of the socket's group")
        }
        // A socket that refuses has no listener any more; anything else refuses because it is no socket.
        ErrorKind::ConnectionRefused => match misplaced(path) {
            Some(kind) => format!("{shown} is {kind}, not a socket: check the path"),
            None => format!("{shown}: the socket has no listener: {owner} is not running"),
        },
        _ => format!("{shown}: {error}"),
    }
}

/// What is at `path`, if it is something else than a socket.
pub(crate) fn misplaced(path: &Path) -> Option<&'static str> {
    let there = std::fs::metadata(path).ok()?.file_type();
    (!there.is_socket()).then(|| kind(there))
}

/// A type of file in words.
pub(crate) fn kind(there: FileType) -> &'static str {
    if there.is_dir() {
        "a folder"
    } else if there.is_file() {
        "a file"
    } else if there.is_symlink() {
        "a symbolic link"
    } else if there.is_fifo() {
        "a pipe"
    } else if there.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn what_stands_in_place_of_a_socket_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let explained = |name: &str| {
            let path = folder.path().join(name);
            let error = UnixStream::connect(&path).unwrap_err();
            explain(&path, &error, "the agent").replace(&folder.path().display().to_string(), "")
        };
        std::fs::write(folder.path().join("file"), "").unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        drop(UnixListener::bind(folder.path().join("dead")).unwrap());
        std::os::unix::fs::symlink("dead", folder.path().join("link")).unwrap();
        assert_eq!(
            explained("file"),
            "/file is a file, not a socket: check the path"
        );
        assert_eq!(
            explained("folder"),
            "/folder is a folder, not a socket: check the path"
        );
        assert_eq!(
            explained("absent"),
            "no socket at /absent: is the agent running here?"
        );
        for dead in ["dead", "link"] {
            let expected = format!("/{dead}: the socket has no listener: the agent is not running");
            assert_eq!(explained(dead), expected);
        }
    }
}
