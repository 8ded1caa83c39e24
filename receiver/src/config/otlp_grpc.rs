//! The `exporters.otlp_grpc` keys; their names are those of the Collector's exporter.

use std::time::Duration;

use crate::config::Config;
use crate::config::exporters::OtlpGrpc;
use crate::config::schema::{Apply, Kind, Row};
use crate::config::value::Limits;
use crate::export::endpoint::Endpoint;

fn otlp(config: &mut Config) -> &mut OtlpGrpc {
    config.exporters.otlp_grpc.get_or_insert_default()
}

/// Whether OTLP can be sent there.
#[must_use]
pub fn is_endpoint(text: &str) -> bool {
    Endpoint::parse(text, false).is_ok()
}

const ENDPOINT: Limits = Limits::Text(
    is_endpoint,
    "`host:port`, or a URL such as `http://127.0.0.1:4317`, `https://collector:4317` or `unix:///run/otlp.sock`",
);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MILLISECOND: Duration = Duration::from_millis(1);

/// The rows of one signal's own keys.
macro_rules! overrides {
    ($signal:ident, $prefix:literal, $doc:literal) => {
        &[
            Row {
                path: $prefix,
                doc: $doc,
                kind: Kind::Override,
                apply: Apply::Inherit,
            },
            Row::value(
                concat!($prefix, ".endpoint"),
                ENDPOINT,
                |c| &mut otlp(c).$signal.endpoint,
                "As above.",
            ),
            Row::value(
                concat!($prefix, ".compression"),
                Limits::Any,
                |c| &mut otlp(c).$signal.compression,
                "As above.",
            ),
            Row::value(
                concat!($prefix, ".timeout"),
                Limits::Duration(MILLISECOND, HOUR),
                |c| &mut otlp(c).$signal.timeout,
                "As above.",
            ),
            Row::value(
                concat!($prefix, ".headers"),
                Limits::Any,
                |c| &mut otlp(c).$signal.headers,
                "As above.",
            ),
            Row {
                path: concat!($prefix, ".tls"),
                doc: "As above.",
                kind: Kind::Override,
                apply: Apply::Inherit,
            },
            Row::value(
                concat!($prefix, ".tls.insecure"),
                Limits::Any,
                |c| &mut otlp(c).$signal.insecure,
                "As above.",
            ),
            Row::value(
                concat!($prefix, ".tls.ca_file"),
                Limits::Any,
                |c| &mut otlp(c).$signal.ca_file,
                "As above.",
            ),
            Row::value(
                concat!($prefix, ".tls.cert_file"),
                Limits::Any,
                |c| &mut otlp(c).$signal.cert_file,
                "As above.",
            ),
            Row::value(
                concat!($prefix, ".tls.key_file"),
                Limits::Any,
                |c| &mut otlp(c).$signal.key_file,
                "As above.",
            ),
        ]
    };
}

/// Keys that count for log records only.
pub const LOGS_ROWS: &[Row] = overrides!(
    logs,
    "exporters.otlp_grpc.logs",
    "What is different for log records: endpoint, compression, timeout, headers, tls."
);
/// Keys that count for metrics only.
pub const METRICS_ROWS: &[Row] = overrides!(
    metrics,
    "exporters.otlp_grpc.metrics",
    "What is different for metrics."
);
/// Keys that count for spans only.
pub const TRACES_ROWS: &[Row] = overrides!(
    traces,
    "exporters.otlp_grpc.traces",
    "What is different for spans."
);

/// The keys.
pub const ROWS: &[Row] = &[
    Row::component(
        "exporters.otlp_grpc",
        "OTLP over gRPC to an OpenTelemetry Collector. The variables OTEL_EXPORTER_OTLP_* count where a key is not set.",
        |c| c.exporters.otlp_grpc.is_some(),
        |c, on| {
            c.exporters.otlp_grpc = on.then(|| c.exporters.otlp_grpc.take().unwrap_or_default())
        },
    ).live(),
    Row::value(
        "exporters.otlp_grpc.endpoint",
        ENDPOINT,
        |c| &mut otlp(c).client.endpoint,
        "The Collector: `host:port` or a URL. TLS unless `http://`, `unix://` or `tls.insecure`.",
    ),
    Row::value(
        "exporters.otlp_grpc.compression",
        Limits::Any,
        |c| &mut otlp(c).client.compression,
        "Of request bodies.",
    ),
    Row::value(
        "exporters.otlp_grpc.timeout",
        Limits::Duration(MILLISECOND, HOUR),
        |c| &mut otlp(c).client.timeout,
        "Of one attempt.",
    ),
    Row::value(
        "exporters.otlp_grpc.headers",
        Limits::Any,
        |c| &mut otlp(c).client.headers,
        "Sent with each request, for example `{ authorization: \"Bearer ${env:TOKEN}\" }`.",
    ),
    Row::value(
        "exporters.otlp_grpc.max_request_size",
        Limits::Size(64 << 10, 256 << 20),
        |c| &mut otlp(c).max_request_size,
        "Encoded size at which requests are split, before compression; Collectors take 4MiB unless told otherwise.",
    ),
    Row::group("exporters.otlp_grpc.tls", "Transport security."),
    Row::value(
        "exporters.otlp_grpc.tls.insecure",
        Limits::Any,
        |c| &mut otlp(c).client.tls.insecure,
        "Plain text for an endpoint without a scheme.",
    ),
    Row::value(
        "exporters.otlp_grpc.tls.insecure_skip_verify",
        Limits::Any,
        |c| &mut otlp(c).client.tls.insecure_skip_verify,
        "Accept any certificate: encrypted, but anyone may answer.",
    ),
    Row::value(
        "exporters.otlp_grpc.tls.ca_file",
        Limits::Any,
        |c| &mut otlp(c).client.tls.ca_file,
        "PEM file with the authorities for the Collector's certificate; without it the system's count.",
    ),
    Row::value(
        "exporters.otlp_grpc.tls.ca_pem",
        Limits::Any,
        |c| &mut otlp(c).client.tls.ca_pem,
        "The same as text.",
    ),
    Row::value(
        "exporters.otlp_grpc.tls.include_system_ca_certs_pool",
        Limits::Any,
        |c| &mut otlp(c).client.tls.include_system_ca_certs_pool,
        "Whether the system's authorities count beside `ca_file`.",
    ),
    Row::value(
        "exporters.otlp_grpc.tls.cert_file",
        Limits::Any,
        |c| &mut otlp(c).client.tls.cert_file,
        "PEM file with our own certificate, for mTLS.",
    ),
    Row::value(
        "exporters.otlp_grpc.tls.cert_pem",
        Limits::Any,
        |c| &mut otlp(c).client.tls.cert_pem,
        "The same as text.",
    ),
    Row::value(
        "exporters.otlp_grpc.tls.key_file",
        Limits::Any,
        |c| &mut otlp(c).client.tls.key_file,
        "PEM file with the private key of our own certificate.",
    ),
    Row::value(
        "exporters.otlp_grpc.tls.key_pem",
        Limits::Any,
        |c| &mut otlp(c).client.tls.key_pem,
        "The same as text.",
    ),
    Row::value(
        "exporters.otlp_grpc.tls.server_name_override",
        Limits::Any,
        |c| &mut otlp(c).client.tls.server_name_override,
        "The name that the Collector's certificate is checked for, if not that of the endpoint.",
    ),
    Row::group(
        "exporters.otlp_grpc.keepalive",
        "HTTP/2 pings, which find a dead connection.",
    ),
    Row::value(
        "exporters.otlp_grpc.keepalive.time",
        Limits::Duration(Duration::ZERO, DAY),
        |c| &mut otlp(c).keepalive.time,
        "Between two pings; 0s sends none.",
    ),
    Row::value(
        "exporters.otlp_grpc.keepalive.timeout",
        Limits::Duration(MILLISECOND, HOUR),
        |c| &mut otlp(c).keepalive.timeout,
        "Until a ping without an answer ends the connection.",
    ),
    Row::value(
        "exporters.otlp_grpc.keepalive.permit_without_stream",
        Limits::Any,
        |c| &mut otlp(c).keepalive.permit_without_stream,
        "Also while no request is under way.",
    ),
    Row::group(
        "exporters.otlp_grpc.sending_queue",
        "The queue in memory between the pipeline and the Collector.",
    ),
    Row::value(
        "exporters.otlp_grpc.sending_queue.enabled",
        Limits::Any,
        |c| &mut otlp(c).sending_queue.enabled,
        "Off: what cannot be sent at once is lost and counted.",
    ),
    Row::value(
        "exporters.otlp_grpc.sending_queue.num_consumers",
        Limits::Count(1, 256),
        |c| &mut otlp(c).sending_queue.num_consumers,
        "Requests under way at once.",
    ),
    Row::value(
        "exporters.otlp_grpc.sending_queue.queue_size",
        Limits::Count(1, 1 << 40),
        |c| &mut otlp(c).sending_queue.queue_size,
        "What the queue holds, in the unit of `sizer`.",
    ),
    Row::value(
        "exporters.otlp_grpc.sending_queue.sizer",
        Limits::Any,
        |c| &mut otlp(c).sending_queue.sizer,
        "The unit of `queue_size`: requests, items (records, points, spans) or bytes.",
    ),
    Row::value(
        "exporters.otlp_grpc.sending_queue.max_bytes",
        Limits::Size(1 << 20, 1 << 40),
        |c| &mut otlp(c).sending_queue.max_bytes,
        "Encoded bytes that the queue holds at most, whatever `queue_size` allows.",
    ),
    Row::group(
        "exporters.otlp_grpc.retry_on_failure",
        "Attempts after the first.",
    ),
    Row::value(
        "exporters.otlp_grpc.retry_on_failure.enabled",
        Limits::Any,
        |c| &mut otlp(c).retry_on_failure.enabled,
        "Off: one attempt.",
    ),
    Row::value(
        "exporters.otlp_grpc.retry_on_failure.initial_interval",
        Limits::Duration(MILLISECOND, HOUR),
        |c| &mut otlp(c).retry_on_failure.initial_interval,
        "Wait before the second attempt.",
    ),
    Row::value(
        "exporters.otlp_grpc.retry_on_failure.multiplier",
        Limits::Real(1.0, 100.0),
        |c| &mut otlp(c).retry_on_failure.multiplier,
        "Each wait is the one before times this.",
    ),
    Row::value(
        "exporters.otlp_grpc.retry_on_failure.randomization_factor",
        Limits::Real(0.0, 1.0),
        |c| &mut otlp(c).retry_on_failure.randomization_factor,
        "Each wait is longer or shorter by up to this share.",
    ),
    Row::value(
        "exporters.otlp_grpc.retry_on_failure.max_interval",
        Limits::Duration(MILLISECOND, DAY),
        |c| &mut otlp(c).retry_on_failure.max_interval,
        "No wait is longer.",
    ),
    Row::value(
        "exporters.otlp_grpc.retry_on_failure.max_elapsed_time",
        Limits::Duration(Duration::ZERO, DAY),
        |c| &mut otlp(c).retry_on_failure.max_elapsed_time,
        "After this a request is given up and counted; 0s never gives up.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_as_in_the_collector() {
        for right in [
            "127.0.0.1:4317",
            "[::1]:4317",
            "collector.observability:4317",
            "http://localhost:4317",
            "http://localhost:4317/",
            "https://collector",
            "unix:///run/otlp.sock",
        ] {
            assert!(is_endpoint(right), "{right}");
        }
        for wrong in [
            "",
            "collector",
            "ftp://collector:4317",
            "http://",
            "http://a:b",
            "collector:99999",
            "a b:4317",
            "unix://run/otlp.sock",
            "http://user:secret@collector:4317",
            "http://collector:4317/v1/logs",
            "http://collector:",
        ] {
            assert!(!is_endpoint(wrong), "{wrong}");
        }
    }
}
