//! What others may ask of the running program.

pub mod exposition;
pub mod health;
pub mod http;
pub mod metrics;
pub mod observer;
