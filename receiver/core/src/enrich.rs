//! Who it was: look-ups in snapshots, never waiting for the network.

pub mod cilium;
pub mod container;
pub mod environment;
pub mod host;
pub mod redact;
pub mod service;
