//! Connections of the running kernel, by our own kernel programs.

pub(crate) mod engine;
pub mod source;
