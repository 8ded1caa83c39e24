//! End to end into a real OpenTelemetry Collector, started with the configurations that users start.

mod alone;
mod exchanges;
mod harness;
mod metrics;
mod netflow;
mod outage;
mod support;
