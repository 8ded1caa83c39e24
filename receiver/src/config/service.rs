//! The `logs`, `metrics` and `service` keys: the form of what leaves, and the program itself.

use std::time::Duration;

use crate::config::schema::Row;
use crate::config::value::{Limits, choice};
use netflume_core::model::metrics::Temporality;

/// `logs`: log records of all receivers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Logs {
    /// What the body holds.
    pub body: Body,
}

/// What the body of a log record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Body {
    /// The record in the words of the system it comes from.
    #[default]
    Record,
    /// Nothing: the attributes say it all.
    None,
}
choice!(Body { Record = "record", None = "none" });

/// `metrics`: metrics of all receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// How values add up over time.
    pub temporality: Temporality,
    /// Series of one metric of one resource.
    pub cardinality_limit: usize,
    /// Series of all metrics and resources of a receiver.
    pub max_series: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            temporality: Temporality::Cumulative,
            cardinality_limit: 2000,
            max_series: 50_000,
        }
    }
}
choice!(Temporality { Cumulative = "cumulative", Delta = "delta" });

/// `service`: the program itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// How long a stop may take until what is queued is given up.
    pub shutdown_timeout: Duration,
    /// Our own telemetry.
    pub telemetry: Telemetry,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            shutdown_timeout: Duration::from_secs(5),
            telemetry: Telemetry::default(),
        }
    }
}

/// `service.telemetry`: what the program says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Least severe line on stderr and in our own OTLP logs.
    pub level: Level,
    /// Whether our own logs and metrics are exported too.
    pub export: bool,
    /// Time between two exports of our own metrics.
    pub metrics_interval: Duration,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            level: Level::Info,
            export: true,
            metrics_interval: Duration::from_secs(60),
        }
    }
}

/// Severity of our own log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Level {
    /// Data is lost, or somebody has to act.
    Error,
    /// Something went wrong and was dealt with.
    Warn,
    /// Start, stop, reload.
    #[default]
    Info,
    /// Rare detail.
    Debug,
    /// All.
    Trace,
}
choice!(Level { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" });

impl Level {
    /// As [`tracing`] calls it.
    #[must_use]
    pub fn as_tracing(self) -> tracing::Level {
        match self {
            Self::Error => tracing::Level::ERROR,
            Self::Warn => tracing::Level::WARN,
            Self::Info => tracing::Level::INFO,
            Self::Debug => tracing::Level::DEBUG,
            Self::Trace => tracing::Level::TRACE,
        }
    }
}

/// The keys.
pub const ROWS: &[Row] = &[
    Row::group("logs", "Log records of all receivers."),
    Row::value(
        "logs.body",
        Limits::Any,
        |c| &mut c.logs.body,
        "`record`: the body is the record in the words of the system it comes from; `none`: attributes only.",
    ).live(),
    Row::group("metrics", "Metrics of all receivers."),
    Row::value(
        "metrics.temporality",
        Limits::Any,
        |c| &mut c.metrics.temporality,
        "Whether counters are sent by OTLP as totals or as changes since the last time; `/metrics` always has totals.",
    ),
    Row::value(
        "metrics.cardinality_limit",
        Limits::Count(1, 1_000_000),
        |c| &mut c.metrics.cardinality_limit,
        "Series of one metric of one process, pod or host; beyond them one series with `otel.metric.overflow` keeps the totals.",
    ),
    Row::value(
        "metrics.max_series",
        Limits::Count(1, 10_000_000),
        |c| &mut c.metrics.max_series,
        "Series of all metrics and processes of a receiver together, about 400 bytes each; beyond them as above. Hubble's metrics have \
         `receivers.cilium.max_series`.",
    ),
    Row::group("service", "The program itself."),
    Row::value(
        "service.shutdown_timeout",
        Limits::Duration(Duration::ZERO, Duration::from_secs(600)),
        |c| &mut c.service.shutdown_timeout,
        "How long a stop may take; what could not be sent by then is lost and counted.",
    ).live(),
    Row::group("service.telemetry", "What the program says about itself."),
    Row::group("service.telemetry.logs", "Its own log lines, on stderr."),
    Row::value(
        "service.telemetry.logs.level",
        Limits::Any,
        |c| &mut c.service.telemetry.level,
        "Least severe line that is written. The variable NETFLUME_LOG (or RUST_LOG) overrides it.",
    ).live(),
    Row::value(
        "service.telemetry.export",
        Limits::Any,
        |c| &mut c.service.telemetry.export,
        "Whether its own logs and metrics (`netflume.*`) go to the OTLP exporter too.",
    ),
    Row::group("service.telemetry.metrics", "Its own metrics."),
    Row::value(
        "service.telemetry.metrics.interval",
        Limits::Duration(Duration::from_secs(1), Duration::from_secs(3600)),
        |c| &mut c.service.telemetry.metrics_interval,
        "Time between two exports of them.",
    ),
];
