//! What others may ask of the running program.

pub mod health;
pub mod metrics;
