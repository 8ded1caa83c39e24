//! Plain data that every stage shares; no behaviour beyond conversions.

pub mod batch;
pub mod cilium;
pub mod flow;
pub mod metrics;
pub mod netflow;
pub mod printable;
pub mod request;
pub mod resource;
pub mod span;
pub mod uuid;
