//! The translation table of the reference translator, and text that Prometheus reads.

use std::sync::Arc;

use super::*;
use netflume_core::model::metrics::{HistogramPoint, Metric, NumberPoint};

fn point(attributes: Attributes, value: Number) -> NumberPoint {
    NumberPoint {
        attributes,
        start_unix_ns: 0,
        unix_ns: 0,
        value,
        exemplars: Vec::new(),
        no_recorded_value: false,
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::Value(Value::Text(value.into()))
}

fn sum(name: &'static str, unit: &'static str, points: Vec<NumberPoint>) -> Metric {
    Metric {
        name,
        unit,
        description: "A \"help\"\\.",
        data: Data::Sum {
            monotonic: true,
            temporality: Temporality::Cumulative,
            points,
        },
    }
}

fn of(resource: &Arc<Resource>, metrics: Vec<Metric>) -> ResourceMetrics {
    ResourceMetrics {
        resource: resource.clone(),
        scope: "test",
        metrics,
    }
}

fn resource(attributes: &[(&'static str, &str)]) -> Arc<Resource> {
    Arc::new(Resource {
        attributes: attributes
            .iter()
            .map(|(key, value)| (*key, Value::Text((*value).into())))
            .collect(),
        extra: Vec::new(),
    })
}

#[test]
fn names_are_those_of_the_reference_translator() {
    let counters = [
        ("hubble_drop_total", "", "hubble_drop_total"),
        ("hubble.drop", "{packet}", "hubble_drop_total"),
        ("hubble_drop_bytes_total", "By", "hubble_drop_bytes_total"),
        (
            "hubble.flows.processed",
            "{flow}",
            "hubble_flows_processed_total",
        ),
        (
            "hubble_dns_response_types_total",
            "1",
            "hubble_dns_response_types_total",
        ),
        (
            "networkobservability_forward_count",
            "{packet}",
            "networkobservability_forward_count_total",
        ),
        (
            "obi.network.flow.bytes",
            "{bytes}",
            "obi_network_flow_bytes_total",
        ),
        ("system.network.io", "By", "system_network_io_bytes_total"),
        ("total.bytes.seen", "By", "bytes_seen_total"),
        ("netflume.received", "{item}", "netflume_received_total"),
        ("2xx", "", "_2xx_total"),
        ("a..b__c", "", "a_b_c_total"),
    ];
    for (name, unit, expected) in counters {
        assert_eq!(metric_name(name, unit, true, false), expected);
    }
    let gauges = [
        (
            "networkobservability_forward_count",
            "",
            "networkobservability_forward_count",
        ),
        (
            "networkobservability_forward_count",
            "1",
            "networkobservability_forward_count_ratio",
        ),
        ("flow.rate", "By/s", "flow_rate_bytes_per_second"),
        (
            "otelcol_exporter_queue_size",
            "{batch}",
            "otelcol_exporter_queue_size",
        ),
    ];
    for (name, unit, expected) in gauges {
        assert_eq!(metric_name(name, unit, false, true), expected);
    }
    let others = [
        (
            "hubble_http_request_duration_seconds",
            "s",
            "hubble_http_request_duration_seconds",
        ),
        (
            "http.server.request.duration",
            "s",
            "http_server_request_duration_seconds",
        ),
        (
            "http.server.request.body.size",
            "By",
            "http_server_request_body_size_bytes",
        ),
        ("conn.active", "{connection}", "conn_active"),
    ];
    for (name, unit, expected) in others {
        assert_eq!(metric_name(name, unit, false, false), expected);
    }
}

#[test]
fn the_programs_own_metrics_have_only_their_own_labels() {
    let own = resource(&[("service.name", "netflume")]);
    let points = vec![
        point(
            vec![
                ("reason", text("POLICY_DENIED")),
                ("source", text("a\"b\\c\nd")),
            ],
            Number::Int(3),
        ),
        point(vec![], Number::Double(0.5)),
    ];
    let metrics = [of(&own, vec![sum("hubble_drop_total", "", points)])];
    assert_eq!(
        write(&metrics, &own, Format::Text),
        "\
# HELP hubble_drop_total A \"help\"\\\\.
# TYPE hubble_drop_total counter
hubble_drop_total{reason=\"POLICY_DENIED\",source=\"a\\\"b\\\\c\\nd\"} 3
hubble_drop_total 0.5
"
    );
    assert_eq!(
        write(&metrics, &own, Format::OpenMetrics),
        "\
# HELP hubble_drop A \\\"help\\\"\\\\.
# TYPE hubble_drop counter
hubble_drop_total{reason=\"POLICY_DENIED\",source=\"a\\\"b\\\\c\\nd\"} 3
hubble_drop_total 0.5
# EOF
"
    );
}

#[test]
fn other_resources_have_job_and_instance_and_a_target_info() {
    let own = resource(&[("service.name", "netflume")]);
    let pod = resource(&[
        ("k8s.pod.name", "web-1"),
        ("service.instance.id", "i"),
        ("service.name", "web"),
        ("service.namespace", "shop"),
    ]);
    let points = vec![point(
        vec![("network.transport", text("tcp"))],
        Number::Int(1),
    )];
    let metrics = [of(&pod, vec![sum("network.flow.io", "By", points)])];
    assert_eq!(
        write(&metrics, &own, Format::OpenMetrics),
        "\
# HELP network_flow_io_bytes A \\\"help\\\"\\\\.
# TYPE network_flow_io_bytes counter
network_flow_io_bytes_total{network_transport=\"tcp\",instance=\"i\",job=\"shop/web\"} 1
# HELP target Attributes of the resource.
# TYPE target info
target_info{k8s_pod_name=\"web-1\",instance=\"i\",job=\"shop/web\"} 1
# EOF
"
    );
}

#[test]
fn histograms_are_cumulative_with_an_infinite_bucket() {
    let own = Arc::new(Resource::default());
    let metric = Metric {
        name: "network.tcp.rtt",
        unit: "s",
        description: "",
        data: Data::Histogram {
            temporality: Temporality::Cumulative,
            bounds: &[0.005, 1.0],
            points: vec![HistogramPoint {
                attributes: vec![("a", AttributeValue::Bool(true))],
                start_unix_ns: 0,
                unix_ns: 0,
                bucket_counts: vec![2, 0, 3],
                sum: 7.5,
                exemplars: Vec::new(),
                no_recorded_value: false,
            }],
        },
    };
    let metrics = [of(&own, vec![metric])];
    assert_eq!(
        write(&metrics, &own, Format::Text),
        "\
# TYPE network_tcp_rtt_seconds histogram
network_tcp_rtt_seconds_bucket{a=\"true\",le=\"0.005\"} 2
network_tcp_rtt_seconds_bucket{a=\"true\",le=\"1\"} 2
network_tcp_rtt_seconds_bucket{a=\"true\",le=\"+Inf\"} 5
network_tcp_rtt_seconds_sum{a=\"true\"} 7.5
network_tcp_rtt_seconds_count{a=\"true\"} 5
"
    );
    assert!(write(&metrics, &own, Format::OpenMetrics).contains("le=\"1.0\"} 2\n"));
}

#[test]
fn labels_that_collide_are_joined_and_series_that_collide_are_added_up() {
    assert_eq!(
        write_labels(
            [
                ("a.b", "1".to_owned()),
                ("a_b", "2".to_owned()),
                ("9", "x".to_owned())
            ]
            .into_iter()
        ),
        "a_b=\"1;2\",key_9=\"x\""
    );
    let own = Arc::new(Resource::default());
    let (one, two) = (
        resource(&[("service.name", "a"), ("host.id", "1")]),
        resource(&[("service.name", "a"), ("host.id", "2")]),
    );
    let metric = || vec![sum("x", "", vec![point(vec![], Number::Int(2))])];
    let written = write(
        &[of(&one, metric()), of(&two, metric())],
        &own,
        Format::Text,
    );
    assert!(
        written.contains("x_total{instance=\"\",job=\"a\"} 4\n"),
        "{written}"
    );
    assert_eq!(written.matches("target_info{").count(), 2);
}

#[test]
fn deltas_and_ended_series_are_left_out() {
    let own = Arc::new(Resource::default());
    let mut ended = point(vec![], Number::Int(1));
    ended.no_recorded_value = true;
    let delta = Metric {
        name: "d",
        unit: "",
        description: "",
        data: Data::Sum {
            monotonic: true,
            temporality: Temporality::Delta,
            points: vec![point(vec![], Number::Int(1))],
        },
    };
    let written = write(
        &[of(&own, vec![delta, sum("e", "", vec![ended])])],
        &own,
        Format::Text,
    );
    assert!(
        !written.contains("d_total") && !written.lines().any(|line| line.starts_with("e_total")),
        "{written}"
    );
}

proptest::proptest! {
    #[test]
    fn every_name_and_label_is_one_that_prometheus_takes(name in ".{0,30}", unit in ".{0,10}", value in ".{0,30}") {
        let translated = metric_name(&format!("a{name}"), &unit, true, false);
        proptest::prop_assert!(translated.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c)), "{translated}");
        let label = label_name(&format!("a{name}"));
        proptest::prop_assert!(label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{label}");
        let written = write_labels([("a", value)].into_iter());
        proptest::prop_assert!(!written.contains('\n'));
    }
}

#[test]
fn exemplars_stand_behind_counters_and_the_buckets_of_their_values_in_openmetrics_alone() {
    let own = Arc::new(Resource::default());
    let exemplar = |value, second: u64| Exemplar {
        attributes: vec![("traceID", text("01"))],
        unix_ns: second * 1_000_000_000 + 5,
        value,
        trace_id: [1; 16],
        span_id: [2; 8],
    };
    let requests = NumberPoint {
        exemplars: vec![exemplar(1.0, 7)],
        ..point(Attributes::new(), Number::Int(3))
    };
    let duration = Metric {
        name: "hubble_http_request_duration_seconds",
        unit: "s",
        description: "",
        data: Data::Histogram {
            temporality: Temporality::Cumulative,
            bounds: &[0.005, 1.0],
            points: vec![HistogramPoint {
                attributes: Attributes::new(),
                start_unix_ns: 0,
                unix_ns: 0,
                bucket_counts: vec![2, 0, 1],
                sum: 7.5,
                exemplars: vec![exemplar(0.005, 8), exemplar(0.001, 9), exemplar(7.0, 1)],
                no_recorded_value: false,
            }],
        },
    };
    let metrics = [of(
        &own,
        vec![
            sum("hubble_http_requests_total", "", vec![requests]),
            duration,
        ],
    )];
    let trace = format!(
        "# {{span_id=\"{}\",traceID=\"01\",trace_id=\"{}\"}}",
        "02".repeat(8),
        "01".repeat(16)
    );
    let written = write(&metrics, &own, Format::OpenMetrics);
    for line in [
        format!("hubble_http_requests_total 3 {trace} 1 7.000000005\n"),
        format!(
            "hubble_http_request_duration_seconds_bucket{{le=\"0.005\"}} 2 {trace} 0.001 9.000000005\n"
        ),
        "hubble_http_request_duration_seconds_bucket{le=\"1.0\"} 2\n".to_owned(),
        format!(
            "hubble_http_request_duration_seconds_bucket{{le=\"+Inf\"}} 3 {trace} 7 1.000000005\n"
        ),
    ] {
        assert!(written.contains(&line), "{line} in {written}");
    }
    assert!(!write(&metrics, &own, Format::Text).contains(" # "));
}
