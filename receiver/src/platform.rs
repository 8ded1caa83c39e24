//! What differs between operating systems outside receivers and directories.

use rustix::system::uname;

pub(crate) mod clock;

/// The running system in words: `kernel 6.18.0 x86_64`.
pub(crate) fn system() -> String {
    let uname = uname();
    format!(
        "kernel {} {}",
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy()
    )
}
