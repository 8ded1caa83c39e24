//! Resources, encoded once.
