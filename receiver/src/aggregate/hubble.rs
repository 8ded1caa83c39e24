//! Hubble's metrics.
mod options;
pub use options::{ContextOption, DEFAULT_METRICS, HubbleOptions, MetricOptions};
