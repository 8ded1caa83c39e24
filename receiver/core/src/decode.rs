//! Bytes to events: pure, total, bounded.

pub mod btf;
pub mod cilium;
pub mod gob;
pub mod kernel;
pub mod packet;
pub mod recording;
