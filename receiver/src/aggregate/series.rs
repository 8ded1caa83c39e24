//! Bounded sets of metric series.
