//! Metric points.
