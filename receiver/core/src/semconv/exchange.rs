//! Names of spans and metrics of layer-7 exchanges: semantic conventions 1.44.0 for HTTP and messaging; for DNS the two names that they
//! have, and others built by their rules.

/// Instrumentation scope.
pub const SCOPE: &str = "netflume.exchange";

/// Attributes.
pub mod attribute {
    /// Answers of a DNS response, texts.
    pub const DNS_ANSWERS: &str = "dns.answers";
    /// The name that was asked for, without the last dot.
    pub const DNS_QUESTION_NAME: &str = "dns.question.name";
    /// The record types that were asked for (ours): `A`, `A,AAAA`.
    pub const DNS_QUESTION_TYPE: &str = "dns.question.type";
    /// The response code (ours): `NXDOMAIN`.
    pub const DNS_RESPONSE_CODE: &str = "dns.response_code";
    /// A known method, or [`super::value::OTHER`].
    pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
    /// The method as it was sent, when it is not known.
    pub const HTTP_REQUEST_METHOD_ORIGINAL: &str = "http.request.method_original";
    /// The status, int.
    pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
    /// The topic.
    pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
    /// As the system calls it: `produce`.
    pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
    /// `send`, `receive`, `settle`.
    pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
    /// `kafka`.
    pub const MESSAGING_SYSTEM: &str = "messaging.system";
    /// `cassandra`, …: of protocols without conventions of their own.
    pub const NETWORK_PROTOCOL_NAME: &str = "network.protocol.name";
    /// `1.1`, `2`.
    pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
    /// The absolute URL, without credentials.
    pub const URL_FULL: &str = "url.full";
    /// The path.
    pub const URL_PATH: &str = "url.path";
    /// The query, without signatures.
    pub const URL_QUERY: &str = "url.query";
    /// `http`, `https`.
    pub const URL_SCHEME: &str = "url.scheme";
    /// The client's program.
    pub const USER_AGENT_ORIGINAL: &str = "user_agent.original";
}

/// Metrics.
pub mod metric {
    /// From question to answer, s.
    pub const DNS_LOOKUP_DURATION: &str = "dns.lookup.duration";
    /// From request to response where it was sent, s.
    pub const HTTP_CLIENT_REQUEST_DURATION: &str = "http.client.request.duration";
    /// From request to response where it was served, s.
    pub const HTTP_SERVER_REQUEST_DURATION: &str = "http.server.request.duration";
    /// From request to response of a messaging client, s.
    pub const MESSAGING_CLIENT_OPERATION_DURATION: &str = "messaging.client.operation.duration";
}

/// Values.
pub mod value {
    /// What stands for anything that is not in a closed list.
    pub const OTHER: &str = "_OTHER";
    /// `error.type`: network policy let it not pass.
    pub const POLICY_DENIED: &str = "policy_denied";
    /// `error.type`: no response came in time.
    pub const TIMEOUT: &str = "timeout";
    /// [`super::attribute::MESSAGING_SYSTEM`].
    pub const KAFKA: &str = "kafka";
    /// [`super::attribute::MESSAGING_OPERATION_TYPE`].
    pub const SEND: &str = "send";
    /// [`super::attribute::MESSAGING_OPERATION_TYPE`].
    pub const RECEIVE: &str = "receive";
    /// [`super::attribute::MESSAGING_OPERATION_TYPE`].
    pub const SETTLE: &str = "settle";
    /// What stands in the place of a secret in a URL.
    pub const REDACTED: &str = "REDACTED";
}

/// Upper bounds that the conventions give for durations of requests, seconds.
pub const DURATION_BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
