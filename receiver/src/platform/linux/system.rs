//! Which system this is.

use rustix::system::uname;

/// `os.type` of the semantic conventions.
pub(crate) const OS_TYPE: &str = "linux";

/// The running system in words: `kernel 6.18.0 x86_64`.
pub(crate) fn describe() -> String {
    format!(
        "kernel {} {}",
        uname().release().to_string_lossy(),
        machine()
    )
}

/// The name of this host in our own UTS namespace.
pub(crate) fn host_name() -> Option<String> {
    let name = uname().nodename().to_str().ok()?.to_owned();
    (!name.is_empty() && name != "(none)").then_some(name)
}

/// The hardware, as uname(2) has it: `x86_64`.
pub(crate) fn machine() -> String {
    uname().machine().to_string_lossy().into_owned()
}

/// `os.name` and `os.version`: distributions have them in files of the host's root, which [`crate::directories::host`] reads.
pub(crate) fn product() -> Option<(&'static str, String)> {
    None
}
