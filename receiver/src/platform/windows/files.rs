//! Files for one user.

use std::fs::File;
use std::io;
use std::path::Path;

/// An empty file. Who may read it is inherited from its folder, as is usual there.
///
/// # Errors
/// It cannot be made or emptied.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    File::create(path)
}
