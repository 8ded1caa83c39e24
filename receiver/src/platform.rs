//! What differs between operating systems outside receivers and directories.

pub(crate) mod clock;
