//! What differs between operating systems outside receivers and directories: a folder for each system, with the same functions.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{clock, files, local_socket, process, signals, system};

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub(crate) use windows::{clock, files, local_socket, process, signals, system};

/// What the program is asked for from outside.
#[cfg_attr(windows, expect(dead_code, reason = "nothing asks for a reload there"))]
pub(crate) enum Asked {
    /// Its end.
    End,
    /// A reload of the configuration.
    Reload,
}
