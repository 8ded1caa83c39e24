//! Delivery: queue, retry, gRPC; or lines on the console.

use bytes::Bytes;

pub mod client;
pub mod console;
pub mod endpoint;
pub mod options;
pub mod queue;
pub mod retry;

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// `ExportLogsServiceRequest`, counted in log records.
    Logs,
    /// `ExportMetricsServiceRequest`, counted in data points.
    Metrics,
    /// `ExportTraceServiceRequest`, counted in spans.
    Traces,
}

/// One OTLP request, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which service it goes to.
    pub signal: Signal,
    /// The protobuf message, uncompressed.
    pub body: Bytes,
    /// Log records, data points or spans in it.
    pub items: u64,
}
