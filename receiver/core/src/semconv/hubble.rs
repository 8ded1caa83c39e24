//! Hubble's metrics and their labels, as Prometheus shows them (Cilium 1.20; `kafka` as of 1.19).
//!
//! The names keep their `_total` and `_seconds`: a Prometheus exporter that adds suffixes finds them there and adds none twice.
//! Counters are sent without a unit, durations with `s`.

/// Metrics.
pub mod metric {
    /// DNS questions, those that policy denied included.
    pub const DNS_QUERIES: &str = "hubble_dns_queries_total";
    /// DNS answers.
    pub const DNS_RESPONSES: &str = "hubble_dns_responses_total";
    /// Records in DNS answers.
    pub const DNS_RESPONSE_TYPES: &str = "hubble_dns_response_types_total";
    /// Dropped flows.
    pub const DROP: &str = "hubble_drop_total";
    /// All flows.
    pub const FLOWS_PROCESSED: &str = "hubble_flows_processed_total";
    /// Flows that leave the cluster.
    pub const FLOWS_TO_WORLD: &str = "hubble_flows_to_world_total";
    /// HTTP requests.
    pub const HTTP_REQUESTS: &str = "hubble_http_requests_total";
    /// HTTP responses (`http` only).
    pub const HTTP_RESPONSES: &str = "hubble_http_responses_total";
    /// From HTTP request to response.
    pub const HTTP_REQUEST_DURATION: &str = "hubble_http_request_duration_seconds";
    /// ICMP messages.
    pub const ICMP: &str = "hubble_icmp_total";
    /// Kafka requests.
    pub const KAFKA_REQUESTS: &str = "hubble_kafka_requests_total";
    /// From Kafka request to response.
    pub const KAFKA_REQUEST_DURATION: &str = "hubble_kafka_request_duration_seconds";
    /// Events that were lost on the way.
    pub const LOST_EVENTS: &str = "hubble_lost_events_total";
    /// Scrapes of our `/metrics`.
    pub const HANDLER_REQUESTS: &str = "hubble_metrics_http_handler_requests_total";
    /// How long scrapes of our `/metrics` took.
    pub const HANDLER_REQUEST_DURATION: &str =
        "hubble_metrics_http_handler_request_duration_seconds";
    /// Verdicts of network policy.
    pub const POLICY_VERDICTS: &str = "hubble_policy_verdicts_total";
    /// Forwarded packets by destination port.
    pub const PORT_DISTRIBUTION: &str = "hubble_port_distribution_total";
    /// SCTP chunks.
    pub const SCTP_CHUNK_TYPES: &str = "hubble_sctp_chunk_types_total";
    /// TCP control flags.
    pub const TCP_FLAGS: &str = "hubble_tcp_flags_total";
}

/// Labels.
pub mod label {
    /// Verdict, in lower case.
    pub const ACTION: &str = "action";
    /// Name of a Kafka request.
    pub const API_KEY: &str = "api_key";
    /// Kind of an SCTP chunk.
    pub const CHUNK_TYPE: &str = "chunk_type";
    /// HTTP status of a scrape.
    pub const CODE: &str = "code";
    /// The destination by its context.
    pub const DESTINATION: &str = "destination";
    /// Traffic direction, in lower case.
    pub const DIRECTION: &str = "direction";
    /// Error code of a Kafka response.
    pub const ERROR_CODE: &str = "error_code";
    /// `IPv4`, `IPv6`.
    pub const FAMILY: &str = "family";
    /// TCP flag.
    pub const FLAG: &str = "flag";
    /// Number of addresses in a DNS message.
    pub const IPS_RETURNED: &str = "ips_returned";
    /// Which kind of policy entry matched.
    pub const MATCH: &str = "match";
    /// HTTP method.
    pub const METHOD: &str = "method";
    /// Destination port.
    pub const PORT: &str = "port";
    /// Protocol of the flow, or of the HTTP message.
    pub const PROTOCOL: &str = "protocol";
    /// Record types that a DNS message asks for.
    pub const QTYPES: &str = "qtypes";
    /// Name that a DNS message asks for.
    pub const QUERY: &str = "query";
    /// DNS response code in words.
    pub const RCODE: &str = "rcode";
    /// Drop reason.
    pub const REASON: &str = "reason";
    /// `client`, `server`: which side's proxy saw the message.
    pub const REPORTER: &str = "reporter";
    /// The source by its context; of lost events, where they were lost.
    pub const SOURCE: &str = "source";
    /// HTTP status code.
    pub const STATUS: &str = "status";
    /// Detail of the event type.
    pub const SUBTYPE: &str = "subtype";
    /// Kafka topic.
    pub const TOPIC: &str = "topic";
    /// Event, record or ICMP type.
    pub const TYPE: &str = "type";
    /// Of exemplars alone: the trace of a request, 32 hexadecimal digits.
    pub const TRACE_ID: &str = "traceID";
    /// What became of the flow.
    pub const VERDICT: &str = "verdict";

    /// What `labelsContext` may add, in the order in which Hubble lists them.
    pub const CONTEXT: [&str; 13] = [
        "source_ip",
        "source_pod",
        "source_namespace",
        "source_workload",
        "source_workload_kind",
        "source_app",
        "destination_ip",
        "destination_pod",
        "destination_namespace",
        "destination_workload",
        "destination_workload_kind",
        "destination_app",
        "traffic_direction",
    ];
}
