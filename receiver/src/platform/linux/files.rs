//! Files for one user.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Read and written by its owner.
const PRIVATE: u32 = 0o600;

/// An empty file for its owner alone: raw packets, requests and passwords go into it.
///
/// # Errors
/// It cannot be made or emptied, or its mode cannot be changed.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE)
        .open(path)?;
    // The mode above is of a new file; one that was there before keeps its own. (Pipes and terminals are not ours to change.)
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(PRIVATE))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_for_its_owner_alone_even_where_a_file_was_before() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let new = folder.path().join("new");
        create_private(&new).unwrap();
        assert_eq!(mode(&new), PRIVATE);
        let open = folder.path().join("open");
        std::fs::write(&open, "old").unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
        create_private(&open).unwrap();
        assert_eq!((mode(&open), open.metadata().unwrap().len()), (PRIVATE, 0));
    }
}
