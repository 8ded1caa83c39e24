//! `network.*` metrics from the connection table.
