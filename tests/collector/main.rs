//! End to end into a real OpenTelemetry Collector, started with the configuration that the README shows.

mod harness;
mod json_lines;
