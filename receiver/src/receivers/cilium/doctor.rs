//! Whether the agent's monitor socket can be read.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::platform::local_socket;
use crate::receivers::{Finding, FindingState};

/// Whether the agent can be read.
pub(super) fn look(path: &Path) -> Finding {
    let shown = path.display();
    let (state, detail, remedy) = match UnixStream::connect(path) {
        Ok(_) => (FindingState::Ready, format!("socket {shown} answers"), None),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            (FindingState::Absent, format!("no socket at {shown}"), None)
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => (
            FindingState::Blocked,
            format!("socket {shown}: {error}"),
            Some("run as root, or as a member of the socket's group".to_owned()),
        ),
        Err(error) => (
            FindingState::Blocked,
            local_socket::explain(path, &error, "the Cilium agent"),
            Some(match local_socket::misplaced(path) {
                Some(_) => "set receivers.cilium.socket to the agent's monitor socket".to_owned(),
                None => "start the Cilium agent".to_owned(),
            }),
        ),
    };
    Finding {
        name: "cilium",
        state,
        detail,
        cost: None,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_missing_socket_is_absent_and_a_dead_one_blocked() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("a.sock");
        assert_eq!(look(&socket).state, FindingState::Absent);
        drop(UnixListener::bind(&socket).unwrap());
        assert_eq!(look(&socket).state, FindingState::Blocked);
        std::fs::remove_file(&socket).unwrap();
        std::fs::create_dir(&socket).unwrap();
        let finding = look(&socket);
        assert_eq!(finding.state, FindingState::Blocked);
        assert!(
            finding
                .detail
                .ends_with("is a folder, not a socket: check the path")
        );
        assert!(
            finding
                .remedy
                .is_some_and(|remedy| remedy.contains("receivers.cilium.socket"))
        );
        std::fs::remove_dir(&socket).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(look(&socket).state, FindingState::Ready);
    }
}
