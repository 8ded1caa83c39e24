//! The `receivers.cilium` keys.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Config;
use crate::config::schema::Row;
use crate::config::value::Limits;
use netflume_core::aggregate::hubble::HubbleOptions;
use netflume_core::aggregate::selection::SelectionOptions;
use netflume_core::enrich::cilium::redaction::Redaction;

/// `receivers.cilium`: events of the Cilium agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Cilium {
    /// The agent's monitor socket.
    pub socket: PathBuf,
    /// The agent's API socket; empty: it is not asked.
    pub api_socket: PathBuf,
    /// How long a layer-7 request waits for its response.
    pub request_timeout: Duration,
    /// Hubble's metrics.
    pub metrics: HubbleOptions,
    /// Log records and lines.
    pub logs: CiliumLogs,
    /// What nobody should read later.
    pub redact: Redact,
}

impl Default for Cilium {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/var/run/cilium/monitor1_2.sock"),
            api_socket: PathBuf::from("/var/run/cilium/cilium.sock"),
            request_timeout: Duration::from_secs(30),
            metrics: HubbleOptions::default(),
            logs: CiliumLogs::default(),
            redact: Redact::default(),
        }
    }
}

/// `receivers.cilium.logs`.
#[derive(Clone, Debug, PartialEq)]
pub struct CiliumLogs {
    /// Whether there are any.
    pub enabled: bool,
    /// Which.
    pub selection: SelectionOptions,
}

impl Default for CiliumLogs {
    fn default() -> Self {
        Self {
            enabled: true,
            selection: SelectionOptions::default(),
        }
    }
}

/// `receivers.cilium.redact`: Hubble's `hubble-redact-*` options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redact {
    /// Whether anything is taken out.
    pub enabled: bool,
    /// Query and fragment of URLs.
    pub http_urlquery: bool,
    /// Passwords in URLs.
    pub http_userinfo: bool,
    /// Headers whose values stay.
    pub http_headers_allow: Vec<String>,
    /// Headers whose values go; the others stay.
    pub http_headers_deny: Vec<String>,
    /// The operation of Kafka requests.
    pub kafka_apikey: bool,
}

impl Default for Redact {
    fn default() -> Self {
        let options = Redaction::default();
        Self {
            enabled: true,
            http_urlquery: options.url_query,
            http_userinfo: options.user_info,
            http_headers_allow: texts(&options.headers_allow),
            http_headers_deny: texts(&options.headers_deny),
            kafka_apikey: options.kafka_api_key,
        }
    }
}

fn texts(list: &[Box<str>]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

impl Redact {
    /// What is taken out.
    #[must_use]
    pub fn options(&self) -> Redaction {
        let names = |list: &[String]| {
            let lower = list.iter().map(|name| name.to_ascii_lowercase().into());
            lower.collect()
        };
        let allow = match self.http_headers_deny.as_slice() {
            [] => names(&self.http_headers_allow),
            _ => Vec::new(),
        };
        Redaction {
            user_info: self.enabled && self.http_userinfo,
            url_query: self.enabled && self.http_urlquery,
            headers: self.enabled,
            headers_allow: allow,
            headers_deny: names(&self.http_headers_deny),
            kafka_api_key: self.enabled && self.kafka_apikey,
        }
    }
}

fn cilium(config: &mut Config) -> &mut Cilium {
    config.receivers.cilium.get_or_insert_default()
}

fn redact(config: &mut Config) -> &mut Redact {
    &mut cilium(config).redact
}

/// The keys.
pub const ROWS: &[Row] = &[
    Row::component(
        "receivers.cilium",
        "Events of the Cilium agent on this node: drops, traces, verdicts, L7 access logs, agent events.",
        |c| c.receivers.cilium.is_some(),
        |c, on| {
            if on {
                cilium(c);
            } else {
                c.receivers.cilium = None;
            }
        },
    ),
    Row::value(
        "receivers.cilium.socket",
        Limits::Any,
        |c| &mut cilium(c).socket,
        "The agent's monitor socket.",
    ),
    Row::value(
        "receivers.cilium.api_socket",
        Limits::Any,
        |c| &mut cilium(c).api_socket,
        "The agent's API socket, which names pods, labels, services and domains; empty leaves flows without them.",
    ),
    Row::value(
        "receivers.cilium.request_timeout",
        Limits::Duration(Duration::from_secs(1), Duration::from_secs(600)),
        |c| &mut cilium(c).request_timeout,
        "A request of an L7 access log without a response for so long is a span and a metric point with the error `timeout`.",
    ),
    Row::value(
        "receivers.cilium.metrics",
        Limits::Any,
        |c| &mut cilium(c).metrics.metrics,
        "Hubble's metrics, as `--hubble-metrics` has them (`drop:sourceContext=pod|ip;destinationContext=pod`), or as its dynamic \
         configuration has them ({ name, contextOptions: [{ name, values }], includeFilters, excludeFilters }): dns, drop, flow, \
         flows-to-world, http, httpV2, icmp, kafka, policy, port-distribution, sctp, tcp. The default gives `hubble_drop_total` and \
         `hubble_tcp_flags_total` a `source` and a `destination`, `hubble_flows_processed_total` a `destination`: the pod \
         (`namespace/name`), or the reserved identity (`reserved:world`) of an end that is none. `hubble_lost_events_total` is \
         always there, the two of the metrics handler are with `extensions.prometheus`.",
    ),
    Row::value(
        "receivers.cilium.max_series",
        Limits::Count(1, 1_000_000),
        |c| &mut cilium(c).metrics.series_limit,
        "Series of one Hubble metric; beyond them one series with `otel.metric.overflow` keeps the totals.",
    ),
    Row::group(
        "receivers.cilium.logs",
        "Log records and console lines. Metrics and the Observer API see every flow, whatever stands here.",
    ),
    Row::value(
        "receivers.cilium.logs.enabled",
        Limits::Any,
        |c| &mut cilium(c).logs.enabled,
        "Whether there are any.",
    ),
    Row::value(
        "receivers.cilium.logs.include",
        Limits::Any,
        |c| &mut cilium(c).logs.selection.include,
        "Flows that match one of these filters (all, if there are none): the fields of Hubble's FlowFilter, of which all must hold, \
         each with a list of values, of which one must: `[{ verdict: [DROPPED] }, { source_pod: [shop/], destination_port: [\"443\"] }]`.",
    ),
    Row::value(
        "receivers.cilium.logs.exclude",
        Limits::Any,
        |c| &mut cilium(c).logs.selection.exclude,
        "Flows that match one of these filters are left out, also where `include` says otherwise.",
    ),
    Row::value(
        "receivers.cilium.logs.sampling_rate",
        Limits::Real(0.0, 1.0),
        |c| &mut cilium(c).logs.selection.rate,
        "Share of the flows that are left, from 0 (none) to 1 (all). Agent, debug and lost events are all kept.",
    ),
    Row::group(
        "receivers.cilium.redact",
        "What nobody should read later: out of log records, spans, metrics and the Observer API. Names after Hubble's `hubble-redact-*` \
         options, whose defaults leave more.",
    ),
    Row::value(
        "receivers.cilium.redact.enabled",
        Limits::Any,
        |c| &mut redact(c).enabled,
        "Whether anything is taken out.",
    ),
    Row::value(
        "receivers.cilium.redact.http_urlquery",
        Limits::Any,
        |c| &mut redact(c).http_urlquery,
        "Query and fragment of URLs.",
    ),
    Row::value(
        "receivers.cilium.redact.http_userinfo",
        Limits::Any,
        |c| &mut redact(c).http_userinfo,
        "Passwords in URLs.",
    ),
    Row::value(
        "receivers.cilium.redact.http_headers_allow",
        Limits::Any,
        |c| &mut redact(c).http_headers_allow,
        "Headers whose values stay; those of all others go. Does not count where `http_headers_deny` names any.",
    ),
    Row::value(
        "receivers.cilium.redact.http_headers_deny",
        Limits::Any,
        |c| &mut redact(c).http_headers_deny,
        "Headers whose values go; those of all others stay.",
    ),
    Row::value(
        "receivers.cilium.redact.kafka_apikey",
        Limits::Any,
        |c| &mut redact(c).kafka_apikey,
        "The operation of Kafka requests.",
    ),
];

#[cfg(test)]
#[path = "cilium_tests.rs"]
mod file_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_rooms() {
        assert_eq!(Redact::default().options(), Redaction::default());
        let off = Redact {
            enabled: false,
            ..Redact::default()
        };
        let options = off.options();
        assert!(!options.user_info && !options.url_query && !options.headers);
    }

    #[test]
    fn denied_headers_stand_instead_of_the_allowed_ones() {
        let redact = Redact {
            http_headers_deny: vec!["Cookie".into()],
            ..Redact::default()
        };
        let options = redact.options();
        assert_eq!(
            (options.headers_allow, options.headers_deny),
            (Vec::new(), vec![Box::from("cookie")])
        );
    }
}
