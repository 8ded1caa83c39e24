//! Linux.

pub(crate) mod clock;
pub(crate) mod files;
pub(crate) mod local_socket;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod system;
