//! What the `exporters` keys set. Defaults of `otlp_grpc` are those of the Collector's exporter.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::schema::Row;
use crate::config::value::{Limits, choice};
use crate::export::Signal;

/// `exporters.otlp_grpc`.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpGrpc {
    /// What is sent where and how, unless a signal has its own.
    pub client: Client,
    /// Keys that count for log records only.
    pub logs: Override,
    /// Keys that count for metrics only.
    pub metrics: Override,
    /// Keys that count for spans only.
    pub traces: Override,
    /// Encoded bytes of one request before compression; below the receiver's limit of 4 MiB.
    pub max_request_size: usize,
    /// HTTP/2 pings.
    pub keepalive: Keepalive,
    /// The queue in memory.
    pub sending_queue: SendingQueue,
    /// Attempts after the first.
    pub retry_on_failure: Retry,
}

impl Default for OtlpGrpc {
    fn default() -> Self {
        Self {
            client: Client::default(),
            logs: Override::default(),
            metrics: Override::default(),
            traces: Override::default(),
            max_request_size: 3 << 20,
            keepalive: Keepalive::default(),
            sending_queue: SendingQueue::default(),
            retry_on_failure: Retry::default(),
        }
    }
}

impl OtlpGrpc {
    /// What counts for one signal.
    #[must_use]
    pub fn client_for(&self, signal: Signal) -> Client {
        let own = match signal {
            Signal::Logs => &self.logs,
            Signal::Metrics => &self.metrics,
            Signal::Traces => &self.traces,
        };
        let mut client = self.client.clone();
        if let Some(endpoint) = &own.endpoint {
            client.endpoint.clone_from(endpoint);
        }
        client.compression = own.compression.unwrap_or(client.compression);
        client.timeout = own.timeout.unwrap_or(client.timeout);
        if let Some(headers) = &own.headers {
            client.headers.clone_from(headers);
        }
        client.tls.insecure = own.insecure.unwrap_or(client.tls.insecure);
        for (own, common) in [
            (&own.ca_file, &mut client.tls.ca_file),
            (&own.cert_file, &mut client.tls.cert_file),
            (&own.key_file, &mut client.tls.key_file),
        ] {
            if own.is_some() {
                common.clone_from(own);
            }
        }
        client
    }
}

/// Where and how requests of a signal are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// `host:port` (TLS unless `tls.insecure`), or a URL with `http://`, `https://` or `unix://`.
    pub endpoint: String,
    /// Of request bodies.
    pub compression: Compression,
    /// Of one attempt.
    pub timeout: Duration,
    /// Added to each request.
    pub headers: Vec<(String, String)>,
    /// Transport security.
    pub tls: Tls,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            endpoint: "http://localhost:4317".to_owned(),
            compression: Compression::Gzip,
            timeout: Duration::from_secs(5),
            headers: Vec::new(),
            tls: Tls::default(),
        }
    }
}

/// Of request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// RFC 1952, the only one that every receiver knows.
    #[default]
    Gzip,
    /// RFC 8878.
    Zstd,
    /// Sent as it is.
    None,
}
choice!(Compression { Gzip = "gzip", Zstd = "zstd", None = "none" });

/// Transport security.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tls {
    /// Plain text for an endpoint without a scheme.
    pub insecure: bool,
    /// PEM file with the authorities that the Collector's certificate is checked against; the system's if not set.
    pub ca_file: Option<PathBuf>,
    /// The same as text.
    pub ca_pem: Option<String>,
    /// Whether the system's authorities count beside `ca_file`.
    pub include_system_ca_certs_pool: bool,
    /// PEM file with our own certificate (mTLS).
    pub cert_file: Option<PathBuf>,
    /// The same as text.
    pub cert_pem: Option<String>,
    /// PEM file with its private key.
    pub key_file: Option<PathBuf>,
    /// The same as text.
    pub key_pem: Option<String>,
    /// The name that the Collector's certificate is checked for, if not that of the endpoint.
    pub server_name_override: Option<String>,
}

/// Keys that count for one signal only.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Override {
    /// As in [`Client`].
    pub endpoint: Option<String>,
    /// As in [`Client`].
    pub compression: Option<Compression>,
    /// As in [`Client`].
    pub timeout: Option<Duration>,
    /// As in [`Client`].
    pub headers: Option<Vec<(String, String)>>,
    /// As in [`Tls`].
    pub insecure: Option<bool>,
    /// As in [`Tls`].
    pub ca_file: Option<PathBuf>,
    /// As in [`Tls`].
    pub cert_file: Option<PathBuf>,
    /// As in [`Tls`].
    pub key_file: Option<PathBuf>,
}

/// HTTP/2 pings, which find a dead connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Between two pings. Zero: none.
    pub time: Duration,
    /// Until a ping without an answer ends the connection.
    pub timeout: Duration,
    /// Also while no request is under way.
    pub permit_without_stream: bool,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            permit_without_stream: true,
        }
    }
}

/// The queue in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendingQueue {
    /// Off: a request that cannot be sent at once is lost.
    pub enabled: bool,
    /// Requests under way at once.
    pub num_consumers: usize,
    /// What the queue holds, in the unit of `sizer`.
    pub queue_size: u64,
    /// The unit of `queue_size`.
    pub sizer: Sizer,
    /// Bytes that the queue holds at most, whatever `queue_size` allows.
    pub max_bytes: u64,
    /// Full queue: wait for room, or drop the new request.
    pub block_on_overflow: bool,
}

impl Default for SendingQueue {
    fn default() -> Self {
        Self {
            enabled: true,
            num_consumers: 10,
            queue_size: 1000,
            sizer: Sizer::Requests,
            max_bytes: 32 << 20,
            block_on_overflow: false,
        }
    }
}

/// The unit of `queue_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sizer {
    /// Requests.
    #[default]
    Requests,
    /// Log records, data points, spans.
    Items,
    /// Encoded bytes.
    Bytes,
}
choice!(Sizer { Requests = "requests", Items = "items", Bytes = "bytes" });

/// Attempts after the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Off: one attempt.
    pub enabled: bool,
    /// Before the second attempt.
    pub initial_interval: Duration,
    /// Each wait is the one before times this.
    pub multiplier: f64,
    /// Each wait is longer or shorter by up to this share.
    pub randomization_factor: f64,
    /// No wait is longer.
    pub max_interval: Duration,
    /// After this the request is given up. Zero: never.
    pub max_elapsed_time: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            multiplier: 1.5,
            randomization_factor: 0.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(300),
        }
    }
}

/// `exporters.console`: one line a record on stdout.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Console {
    /// For people or for programs.
    pub format: Format,
}

/// How records are written on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Text,
    /// OTLP JSON, one request a line, as the Collector's file exporter writes it.
    Json,
}
choice!(Format { Text = "text", Json = "json" });

/// The key above all exporters.
pub const ROWS: &[Row] = &[Row::group(
    "exporters",
    "Where it goes: every receiver feeds every exporter.",
)];

/// The keys of the console; those of OTLP are in [`crate::config::otlp_grpc`].
pub const CONSOLE_ROWS: &[Row] = &[
    Row::component(
        "exporters.console",
        "Records as lines on stdout.",
        |c| c.exporters.console.is_some(),
        |c, on| c.exporters.console = on.then(|| c.exporters.console.take().unwrap_or_default()),
    ),
    Row::value(
        "exporters.console.format",
        Limits::Any,
        |c| &mut c.exporters.console.get_or_insert_default().format,
        "`text`: aligned columns for people; `json`: OTLP JSON, one request a line.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_its_own_keys_and_the_common_ones_for_the_rest() {
        let mut otlp = OtlpGrpc::default();
        let minute = Duration::from_secs(60);
        otlp.client.timeout = minute;
        otlp.logs.endpoint = Some("https://logs:4317".into());
        otlp.logs.insecure = Some(true);
        let logs = otlp.client_for(Signal::Logs);
        assert_eq!(
            (logs.endpoint.as_str(), logs.timeout, logs.tls.insecure),
            ("https://logs:4317", minute, true)
        );
        assert_eq!(otlp.client_for(Signal::Metrics), otlp.client);
    }
}
