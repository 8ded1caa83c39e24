//! State over time: events and now in, records and metric points out.

pub mod netflow;
pub mod network_metrics;
pub mod series;
