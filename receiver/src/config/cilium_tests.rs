//! What a user may write under `receivers.cilium`, and what each mistake is answered with.

use crate::config::schema::File;
use crate::config::{Overrides, parse};
use crate::receivers::cilium::options::CiliumOptions;
use netflume_core::aggregate::hubble::{HubbleOptions, MetricOptions};

fn read(keys: &str) -> Result<CiliumOptions, String> {
    let text = format!("receivers:\n  cilium:\n{keys}");
    let file = File {
        name: "a.yaml",
        text: &text,
    };
    match parse(Some(file), &|_| None, Overrides::default()) {
        Ok(loaded) => Ok(loaded.config.receivers.cilium.unwrap_or_default()),
        Err(problems) => Err(problems.to_string()),
    }
}

#[track_caller]
fn good(keys: &str) -> CiliumOptions {
    read(keys).unwrap_or_else(|problems| panic!("{problems}"))
}

/// `expected`: what follows `a.yaml:`.
#[track_caller]
fn wrong(keys: &str, expected: &str) {
    assert_eq!(
        read(keys).unwrap_err(),
        format!("a.yaml:{expected}"),
        "{keys}"
    );
}

fn names(metrics: &[MetricOptions]) -> Vec<&str> {
    metrics.iter().map(|metric| metric.name.as_str()).collect()
}

#[test]
fn metrics_are_read_in_hubbles_syntax_and_in_that_of_its_dynamic_configuration() {
    assert_eq!(good("").metrics, HubbleOptions::default());
    let text = good(
        "    metrics: [\"drop:sourceContext=pod|ip;labelsContext=source_ip,source_pod\", tcp]\n",
    );
    let maps = good(
        "    metrics:
    - name: drop
      contextOptions:
      - { name: sourceContext, values: [pod, ip] }
      - { name: labelsContext, values: [source_ip, source_pod] }
    - { name: tcp }\n",
    );
    let line =
        good("    metrics: drop:sourceContext=pod|ip;labelsContext=source_ip,source_pod tcp\n");
    assert_eq!(text.metrics, maps.metrics);
    assert_eq!(text.metrics, line.metrics);
    assert_eq!(names(&text.metrics.metrics), ["drop", "tcp"]);
    assert!(good("    metrics: []\n").metrics.metrics.is_empty());
    let filtered = good(
        "    metrics: [{ name: flow, includeFilters: [{ source_pod: [shop/] }], excludeFilters: [{ verdict: [DROPPED] }] }]\n",
    );
    assert_eq!(
        filtered.metrics.metrics[0].include_filters[0].source_pod,
        ["shop/"]
    );
    assert_eq!(filtered.metrics.metrics[0].exclude_filters[0].verdict, [2]);
}

#[test]
fn a_metric_that_is_none_is_told_with_its_place_and_the_nearest() {
    wrong(
        "    metrics: [tcp, dropp]\n",
        "3:20: receivers.cilium.metrics: metric: found `dropp`, allowed are dns, drop, flow, flows-to-world, http, httpV2, icmp, kafka, \
         policy, port-distribution, sctp, tcp (did you mean `drop`?)",
    );
    wrong(
        "    metrics: [\"drop:sourceContxt=pod\"]\n",
        "3:15: receivers.cilium.metrics: option of metric `drop`: found `sourceContxt`, allowed are sourceContext, \
         sourceIngressContext, sourceEgressContext, destinationContext, destinationIngressContext, destinationEgressContext, \
         labelsContext (did you mean `sourceContext`?)",
    );
    wrong(
        "    metrics: [\"drop:sourceContext=pod|pot-name\"]\n",
        "3:15: receivers.cilium.metrics: sourceContext: found `pot-name`, allowed are identity, namespace, pod, pod-name, dns, ip, \
         reserved-identity, workload, workload-name, app (did you mean `pod-name`?)",
    );
    wrong(
        "    metrics: [http, httpV2]\n",
        "3:21: receivers.cilium.metrics: metrics `http` and `httpV2` exclude each other",
    );
    wrong(
        "    metrics: [tcp, { name: tcp }]\n",
        "3:20: receivers.cilium.metrics: metric `tcp` is there twice",
    );
    wrong(
        "    metrics: [{ name: tcp, filters: [] }]\n",
        "3:28: receivers.cilium.metrics: found `filters`, allowed is one of name, contextOptions, includeFilters, excludeFilters",
    );
    wrong(
        "    metrics: [{ name: tcp, contextOptions: [{ nam: a }] }]\n",
        "3:47: receivers.cilium.metrics: found `nam`, allowed is another key (did you mean `name`?)",
    );
    wrong(
        "    metrics: 1\n",
        "3:14: receivers.cilium.metrics: found `1`, allowed is a list of metrics in Hubble's syntax, such as \
         `[\"drop:sourceContext=pod;destinationContext=pod\", tcp]`, or of maps with `name`, `contextOptions`, `includeFilters`, \
         `excludeFilters`",
    );
}

#[test]
fn filters_have_hubbles_fields_in_both_spellings_and_numbers_where_text_is_meant() {
    let logs = good(
        "    logs:
      include:
      - { source_pod: [shop/], destinationPort: [80, \"443\"], verdict: [dropped, AUDIT], event_type: [{ type: 129 }] }
      exclude: [{ http_path: [/health], reply: [false] }]
      sampling_rate: 0.1\n",
    )
    .logs;
    let include = &logs.selection.include[0];
    assert_eq!(include.destination_port, ["80", "443"]);
    assert_eq!(include.verdict, [2, 4]);
    assert_eq!(include.event_type[0].r#type, 129);
    assert_eq!(logs.selection.exclude[0].http_path, ["/health"]);
    assert_eq!(logs.selection.exclude[0].reply, [false]);
    assert!(logs.enabled && (logs.selection.rate - 0.1).abs() < 1e-9);
}

#[test]
fn expressions_are_taken_as_hubble_takes_them() {
    let ordinary = [
        r"^[\w-]{1,63}\.example\.com$",
        r"\w{8}-\w{4}-\w{4}-\w{4}-\w{12}",
        "/items/{id}",
        r"\pL+",
        r"\Q[a]\E",
    ];
    let list = ordinary.map(|text| format!("'{text}'")).join(", ");
    let text = format!(
        "    logs: {{ include: [{{ http_path: [{list}] }}] }}
    metrics: [{{ name: dns, includeFilters: [{{ dns_query: [{list}] }}] }}]\n"
    );
    assert_eq!(good(&text).logs.selection.include[0].http_path, ordinary);
    wrong(
        "    logs: { include: [{ http_path: ['(a{1000}){1000}'] }] }\n",
        "3:37: receivers.cilium.logs.include: http_path: `(a{1000}){1000}` is no regular expression that can be used: a count is \
         above 1000, alone or multiplied with those around it, or its bounds are reversed",
    );
}

#[test]
fn a_filter_that_cannot_be_followed_is_told_with_its_place() {
    wrong(
        "    logs: { include: [{ source_pot: [a/] }] }\n",
        "3:25: receivers.cilium.logs.include: found `source_pot`, allowed is another key (did you mean `source_pod`?)",
    );
    wrong(
        "    logs: { include: [{ verdict: [DROPPED, DROPED] }] }\n",
        "3:44: receivers.cilium.logs.include: verdict: `DROPED` is no Verdict (did you mean `DROPPED`?)",
    );
    wrong(
        "    logs: { exclude: [{ source_ip: [10.0.0.0/8, 10.0.0] }] }\n",
        "3:49: receivers.cilium.logs.exclude: source_ip: `10.0.0` is no IP address and no prefix such as 10.0.0.0/8",
    );
    wrong(
        "    logs: { exclude: [{ source_pod: shop/ }] }\n",
        "3:37: receivers.cilium.logs.exclude: found `shop/`, allowed is a list of values",
    );
    wrong(
        "    logs: { exclude: [{ http_path: [a], event_type: [{ type: 1 }] }] }\n",
        "3:23: receivers.cilium.logs.exclude: http_path: goes only with event_type 129 (l7), or without event types",
    );
    wrong(
        "    logs: { sampling_rate: 2 }\n",
        "3:28: receivers.cilium.logs.sampling_rate: found `2`, allowed is a number from 0 to 1",
    );
}
