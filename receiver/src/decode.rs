//! Bytes to events: pure, total, bounded.

pub mod kernel;
