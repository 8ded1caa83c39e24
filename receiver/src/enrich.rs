//! Who it was: look-ups in snapshots, never waiting.

pub mod container;
pub mod host;
pub mod process;
