//! State over time: events and now in, records and metric points out.

pub mod exchange;
pub mod flow_filter;
pub mod hubble;
pub mod netflow;
pub mod network_metrics;
pub mod selection;
pub mod series;
pub mod usage;
