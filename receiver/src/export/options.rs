//! What can be set about the OTLP exporter. Keys and defaults are those of the OpenTelemetry Collector's exporters.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use netflume_core::model::request::Signal;
use netflume_core::otlp::request::MAX_REQUEST_BYTES;

/// The OTLP exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct ExporterOptions {
    /// Where and how log records go.
    pub logs: SignalOptions,
    /// Where and how metrics go.
    pub metrics: SignalOptions,
    /// Where and how spans go.
    pub traces: SignalOptions,
    /// HTTP/2 pings.
    pub keepalive: KeepaliveOptions,
    /// What waits for the Collector.
    pub sending_queue: QueueOptions,
    /// When a failed request is sent again.
    pub retry_on_failure: RetryOptions,
    /// The largest request, bytes before compression; larger ones are split by the encoders. Default: 3.5 MiB, because a
    /// Collector refuses more than 4 MiB.
    pub max_request_bytes: usize,
}

impl Default for ExporterOptions {
    fn default() -> Self {
        Self {
            logs: SignalOptions::default(),
            metrics: SignalOptions::default(),
            traces: SignalOptions::default(),
            keepalive: KeepaliveOptions::default(),
            sending_queue: QueueOptions::default(),
            retry_on_failure: RetryOptions::default(),
            max_request_bytes: MAX_REQUEST_BYTES,
        }
    }
}

impl ExporterOptions {
    /// The options of one signal.
    #[must_use]
    pub fn signal(&self, signal: Signal) -> &SignalOptions {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Metrics => &self.metrics,
            Signal::Traces => &self.traces,
        }
    }

    /// Sets something for all signals, as a key of the configuration file does.
    pub fn for_all(&mut self, mut set: impl FnMut(&mut SignalOptions)) {
        set(&mut self.logs);
        set(&mut self.metrics);
        set(&mut self.traces);
    }
}

/// Where and how one signal goes. Signals with equal endpoint and TLS settings share a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalOptions {
    /// `host:port`, `http://host:port`, `https://host:port` or `unix:///path`. None (the default): the signal is not exported.
    pub endpoint: Option<String>,
    /// TLS.
    pub tls: TlsOptions,
    /// Sent with every request. Default: none.
    pub headers: Headers,
    /// Default: gzip.
    pub compression: Compression,
    /// How long one attempt may take, connecting included. Default: 5 s, also when the endpoint comes from the environment:
    /// OpenTelemetry's 10 s there are for all attempts together, while ours go on by [`RetryOptions`].
    pub timeout: Duration,
}

impl Default for SignalOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            tls: TlsOptions::default(),
            headers: Headers::default(),
            compression: Compression::default(),
            timeout: Duration::from_secs(5),
        }
    }
}

/// TLS of an endpoint. `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// Plain text, if the endpoint has no scheme. Default: false.
    pub insecure: bool,
    /// Accept any certificate: encrypted, but anyone may answer. Default: false.
    pub insecure_skip_verify: bool,
    /// PEM file of the authorities to trust. Default: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The same as text.
    pub ca_pem: Option<String>,
    /// Trust the system's authorities beside those of `ca_file` or `ca_pem`. Default: false.
    pub include_system_ca_certs_pool: bool,
    /// PEM file of our certificate chain, for mutual TLS. Needs a key.
    pub cert_file: Option<PathBuf>,
    /// The same as text.
    pub cert_pem: Option<String>,
    /// PEM file of our key, for mutual TLS. Needs a certificate.
    pub key_file: Option<PathBuf>,
    /// The same as text.
    pub key_pem: Option<String>,
    /// The name that the certificate must have and that is asked for, instead of the endpoint's host.
    pub server_name_override: Option<String>,
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("insecure", &self.insecure)
            .field("insecure_skip_verify", &self.insecure_skip_verify)
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .field("server_name_override", &self.server_name_override)
            .finish_non_exhaustive()
    }
}

/// Header names and values. Values may be secrets: `Debug` does not show them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.0
                    .iter()
                    .map(|(name, _)| (name, format_args!("[redacted]"))),
            )
            .finish()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Headers {
    fn from(pairs: [(&str, &str); N]) -> Self {
        let pair = |(name, value): (&str, &str)| (name.to_ascii_lowercase(), value.to_owned());
        Self(pairs.into_iter().map(pair).collect())
    }
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// RFC 1952; every OTLP receiver takes it.
    #[default]
    Gzip,
    /// RFC 8878; Collectors take it.
    Zstd,
    /// As it is.
    None,
}

/// HTTP/2 pings, which find a dead connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepaliveOptions {
    /// Between two pings; zero: none. Default: 30 s.
    pub time: Duration,
    /// How long the answer may take before the connection counts as dead. Default: 10 s.
    pub timeout: Duration,
    /// Ping also while no request is under way. Default: false, because Go servers answer idle pings by closing the
    /// connection ("too many pings") unless they are told otherwise. TCP's own keepalive watches an idle connection, and an
    /// attempt without an answer makes the next one on a new connection.
    pub permit_without_stream: bool,
}

impl Default for KeepaliveOptions {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            permit_without_stream: false,
        }
    }
}

/// The unit of [`QueueOptions::queue_size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sizer {
    /// Requests.
    #[default]
    Requests,
    /// Log records, data points, spans.
    Items,
    /// Bytes after compression.
    Bytes,
}

/// What waits for the Collector, compressed. Each signal has a queue of its own, with these bounds.
///
/// How long an outage loses nothing: a host with 1,000 changing flows per 10 s interval makes about 1.4 MB of log records in an
/// interval, some 100 kB when gzipped, in one request, and one request of metrics. Two minutes are 12 requests a signal and less
/// than 1.5 MB: the defaults hold that eighty times over by count, twenty times by size, and [`RetryOptions::max_elapsed_time`]
/// lets the oldest wait five minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// False: nothing waits; what comes while `num_consumers` requests are under way is dropped. Default: true.
    pub enabled: bool,
    /// Requests of a signal under way at a time. Metrics go one at a time, in order. Default: 10.
    pub num_consumers: usize,
    /// What is held of a signal at most, in the unit of `sizer`, what is under way included; what comes on top is dropped and
    /// counted, as in the Collector. Default: 1000.
    pub queue_size: u64,
    /// The unit of `queue_size`. Default: requests.
    pub sizer: Sizer,
    /// Bytes held of a signal at most, after compression, those under way included, whatever `queue_size` allows. What is not
    /// compressed yet counts as it is. Default: 32 MiB.
    pub max_bytes: u64,
    /// Whoever exports waits for room, however long the Collector is away: for a recorded file. Default: false.
    pub block_on_overflow: bool,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            num_consumers: 10,
            queue_size: 1000,
            sizer: Sizer::default(),
            max_bytes: 32 * 1024 * 1024,
            block_on_overflow: false,
        }
    }
}

/// When a request that failed is sent again: after `initial_interval`, then `multiplier` times as long each time up to
/// `max_interval`, each time varied by ± `randomization_factor`, and never sooner than the Collector asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryOptions {
    /// False: a failed request is dropped. Default: true.
    pub enabled: bool,
    /// Default: 5 s.
    pub initial_interval: Duration,
    /// At least 1. Default: 1.5.
    pub multiplier: f64,
    /// Between 0 and 1. Default: 0.5.
    pub randomization_factor: f64,
    /// Default: 30 s.
    pub max_interval: Duration,
    /// After this time since its first attempt a request is dropped; zero: never. Default: 300 s.
    pub max_elapsed_time: Duration,
}

impl Default for RetryOptions {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_not_shown() {
        let shown = format!("{:?}", Headers::from([("Api-Key", "s3cret")]));
        assert!(
            shown.contains("api-key") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}
