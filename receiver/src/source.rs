//! The shell at the front: bytes leave the operating system here, in batches, with the time at which they were read.
//!
//! A [`Batch`] is what `netflume record` writes to a file and `netflume replay` reads back, so everything behind this module
//! works without privileges, and gives the same result twice.

#[cfg(target_os = "linux")]
pub mod cilium;
#[cfg(target_os = "linux")]
pub mod cilium_api;
#[cfg(target_os = "linux")]
pub(crate) mod clock;
#[cfg(target_os = "linux")]
pub mod kernel;
#[cfg(target_os = "linux")]
pub mod links;
