//! Encoded OTLP requests: what the writers of [`crate::otlp`] make and the exporter sends.

use bytes::Bytes;

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

impl Signal {
    /// The name in lines, metrics and options.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }
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
