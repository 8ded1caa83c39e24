//! What the `exporters` keys set. Defaults of `otlp_grpc` are those of the Collector's exporter.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::schema::Row;
use crate::config::value::{Limits, choice};
use crate::export::console::Format;
use crate::export::options::{
    Compression, ExporterOptions, Headers, KeepaliveOptions, QueueOptions, RetryOptions,
    SignalOptions, Sizer, TlsOptions,
};
use netflume_core::model::request::Signal;
use netflume_core::otlp::request::MAX_REQUEST_BYTES;

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
    pub keepalive: KeepaliveOptions,
    /// The queue in memory.
    pub sending_queue: QueueOptions,
    /// Attempts after the first.
    pub retry_on_failure: RetryOptions,
}

impl Default for OtlpGrpc {
    fn default() -> Self {
        Self {
            client: Client::default(),
            logs: Override::default(),
            metrics: Override::default(),
            traces: Override::default(),
            max_request_size: MAX_REQUEST_BYTES,
            keepalive: KeepaliveOptions::default(),
            sending_queue: QueueOptions::default(),
            retry_on_failure: RetryOptions::default(),
        }
    }
}

impl OtlpGrpc {
    /// What the exporter is started with.
    #[must_use]
    pub fn options(&self) -> ExporterOptions {
        let signal = |signal| {
            let client = self.client_for(signal);
            SignalOptions {
                endpoint: Some(client.endpoint),
                tls: client.tls,
                headers: Headers(client.headers),
                compression: client.compression,
                timeout: client.timeout,
            }
        };
        ExporterOptions {
            logs: signal(Signal::Logs),
            metrics: signal(Signal::Metrics),
            traces: signal(Signal::Traces),
            keepalive: self.keepalive.clone(),
            sending_queue: self.sending_queue.clone(),
            retry_on_failure: self.retry_on_failure.clone(),
            max_request_bytes: self.max_request_size,
        }
    }

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
    pub tls: TlsOptions,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            endpoint: "http://localhost:4317".to_owned(),
            compression: Compression::Gzip,
            timeout: Duration::from_secs(5),
            headers: Vec::new(),
            tls: TlsOptions::default(),
        }
    }
}

choice!(Compression { Gzip = "gzip", Zstd = "zstd", None = "none" });
choice!(Sizer { Requests = "requests", Items = "items", Bytes = "bytes" });

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
    /// As in [`TlsOptions`].
    pub insecure: Option<bool>,
    /// As in [`TlsOptions`].
    pub ca_file: Option<PathBuf>,
    /// As in [`TlsOptions`].
    pub cert_file: Option<PathBuf>,
    /// As in [`TlsOptions`].
    pub key_file: Option<PathBuf>,
}

/// `exporters.console`: one line a record on stdout.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Console {
    /// For people or for programs.
    pub format: Format,
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
        let options = otlp.options();
        assert_eq!(options.logs.endpoint.as_deref(), Some("https://logs:4317"));
        assert_eq!(options.traces.timeout, minute);
    }

    #[test]
    fn the_defaults_are_those_of_the_exporter() {
        let mut expected = ExporterOptions::default();
        expected.for_all(|signal| signal.endpoint = Some("http://localhost:4317".into()));
        assert_eq!(OtlpGrpc::default().options(), expected);
    }
}
