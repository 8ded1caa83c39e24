//! The `receivers.cilium` keys.

use std::time::Duration;

use crate::config::Config;
use crate::config::schema::Row;
use crate::config::value::Limits;
use crate::receivers::cilium::options::{CiliumOptions, Redact};

fn cilium(config: &mut Config) -> &mut CiliumOptions {
    config.receivers.cilium.get_or_insert_default()
}

fn redact(config: &mut Config) -> &mut Redact {
    &mut cilium(config).redact
}

/// The keys.
pub const ROWS: &[Row] = &[
    Row::component(
        "receivers.cilium",
        "Events of the CiliumOptions agent on this node: drops, traces, verdicts, L7 access logs, agent events.",
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
        "receivers.cilium.api_wait",
        Limits::Duration(Duration::ZERO, Duration::from_secs(60)),
        |c| &mut cilium(c).api_wait,
        "The first events wait for the agent's first answers, at most so long and up to 8 MiB, unless its API socket cannot be reached; \
         flows before them have no names and may have wrong directions.",
    ),
    Row::value(
        "receivers.cilium.request_timeout",
        Limits::Duration(Duration::from_secs(1), Duration::from_secs(600)),
        |c| &mut cilium(c).request_timeout,
        "A request of an L7 access log without a response for so long is a span and a metric point with the error `timeout`.",
    ).live(),
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
        "Series of one Hubble metric; beyond them one series with `otel.metric.overflow` keeps the totals, until series of deleted pods and those \
         that were not counted for five minutes have made room.",
    ),
    Row::group(
        "receivers.cilium.logs",
        "Log records and console lines. Metrics and the Observer API see every flow, whatever stands here.",
    ).live(),
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
    ).live(),
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
