//! Who it was: look-ups in snapshots, never waiting for the network.

pub mod cgroups;
pub mod cilium;
pub mod container;
pub mod host;
pub mod process;
pub mod redact;
pub mod service;
