//! How long series live, and how many.

use super::*;

#[test]
fn series_of_a_deleted_pod_end_after_a_minute() {
    let mut metrics = metrics(&[
        "drop:sourceContext=pod",
        "flow:labelsContext=source_pod,source_namespace",
        "tcp:sourceContext=namespace",
    ]);
    let other = Flow {
        source: endpoint("a", "other", &[]),
        ..dropped()
    };
    for flow in [dropped(), other, tcp(2)] {
        metrics.observe(&flow, &Node::default());
    }
    let resource = ResourceRef::default();
    metrics.pod_deleted("a", "s", 10 * SECOND);
    assert!(
        lines(metrics.export(&resource, 69 * SECOND))
            .iter()
            .all(|line| !line.ends_with("end"))
    );
    assert_eq!(
        lines(metrics.export(&resource, 70 * SECOND)),
        [
            "drop_total{protocol=TCP,reason=POLICY_DENIED,source=a/other} 1",
            "drop_total{protocol=TCP,reason=POLICY_DENIED,source=a/s} end",
            "flows_processed_total{protocol=TCP,source_namespace=a,source_pod=other,subtype=,type=Drop,verdict=DROPPED} 1",
            "flows_processed_total{protocol=TCP,source_namespace=a,source_pod=s,subtype=,type=Drop,verdict=DROPPED} end",
            "flows_processed_total{protocol=TCP,source_namespace=a,source_pod=s,subtype=to-endpoint,type=Trace,verdict=FORWARDED} end",
            "tcp_flags_total{family=IPv4,flag=SYN,source=a} 1",
        ]
    );
    assert_eq!(lines(metrics.export(&resource, 71 * SECOND)).len(), 3);
    // It comes back under its old name, and is found.
    metrics.observe(&dropped(), &Node::default());
    metrics.observe(&dropped(), &Node::default());
    assert!(
        lines(metrics.export(&resource, 72 * SECOND))
            .contains(&"drop_total{protocol=TCP,reason=POLICY_DENIED,source=a/s} 2".to_owned())
    );
}

#[test]
fn a_pod_that_comes_back_within_the_minute_keeps_its_series() {
    let mut metrics = metrics(&["drop:sourceContext=pod"]);
    metrics.observe(&dropped(), &Node::default());
    metrics.pod_deleted("a", "s", 10 * SECOND);
    metrics.pod_is_there("a", "other");
    metrics.pod_is_there("a", "s");
    let resource = ResourceRef::default();
    assert_eq!(
        lines(metrics.export(&resource, 70 * SECOND)),
        ["drop_total{protocol=TCP,reason=POLICY_DENIED,source=a/s} 1"]
    );
    // The second deletion of the same pod, by its other address, moves nothing.
    metrics.pod_deleted("a", "s", 80 * SECOND);
    metrics.pod_deleted("a", "s", 90 * SECOND);
    assert_eq!(
        lines(metrics.export(&resource, 140 * SECOND)),
        ["drop_total{protocol=TCP,reason=POLICY_DENIED,source=a/s} end"]
    );
}

#[test]
fn a_full_table_has_room_for_the_living() {
    let options = HubbleOptions {
        metrics: vec![MetricOptions::parse("drop:sourceContext=pod")],
        series_limit: 3,
    };
    let mut metrics = HubbleMetrics::new(&options).unwrap();
    let of = |pod: &str, second: u64| Flow {
        time_ns: second * SECOND,
        source: endpoint("a", pod, &[]),
        ..dropped()
    };
    let count = |metrics: &mut HubbleMetrics, pod: &str, second: u64| {
        metrics.observe(&of(pod, second), &Node::default());
        metrics.advance(second * SECOND);
    };
    let line = |pod: &str, value: &str| {
        let labels = format!("protocol=TCP,reason=POLICY_DENIED,source=a/{pod}");
        format!("drop_total{{{labels}}} {value}")
    };
    let overflow = |n| format!("drop_total{{otel.metric.overflow=Bool(true)}} {n}");
    let resource = ResourceRef::default();
    for pod in ["quiet", "deleted", "busy"] {
        count(&mut metrics, pod, 10);
    }
    count(&mut metrics, "busy", 300);
    metrics.pod_deleted("a", "deleted", 300 * SECOND);
    // No room is needed yet: what is there stays.
    let before = [line("busy", "2"), line("deleted", "1"), line("quiet", "1")];
    assert_eq!(lines(metrics.export(&resource, 301 * SECOND)), before);
    // The first one of a new pod finds none, and makes some: the deleted pod does not stay its minute.
    count(&mut metrics, "new", 302);
    count(&mut metrics, "new", 303);
    let after = [
        overflow(1),
        line("busy", "2"),
        line("deleted", "end"),
        line("new", "1"),
        line("quiet", "1"),
    ];
    assert_eq!(lines(metrics.export(&resource, 303 * SECOND)), after);
    // Five minutes after the quiet one was counted last it goes too, but the table is not looked through with each flow.
    count(&mut metrics, "other", 310);
    count(&mut metrics, "other", 311);
    count(&mut metrics, "other", 312);
    count(&mut metrics, "other", 313);
    let after = [
        overflow(4),
        line("busy", "2"),
        line("new", "1"),
        line("other", "1"),
        line("quiet", "end"),
    ];
    let exported = lines(metrics.export(&resource, 314 * SECOND));
    assert_eq!(exported, after);
}

#[test]
fn beyond_the_limit_there_is_one_series_for_the_rest() {
    let options = HubbleOptions {
        metrics: vec![MetricOptions::parse("port-distribution")],
        series_limit: 2,
    };
    let mut metrics = HubbleMetrics::new(&options).unwrap();
    for port in [1, 2, 3, 4, 1] {
        let flow = Flow {
            l4: Some(L4::Udp {
                source_port: 9,
                destination_port: port,
            }),
            ..tcp(0)
        };
        metrics.observe(&flow, &Node::default());
    }
    assert_eq!(
        lines(metrics.export(&ResourceRef::default(), 9)),
        [
            "port_distribution_total{otel.metric.overflow=Bool(true)} 2",
            "port_distribution_total{port=1,protocol=UDP} 2",
            "port_distribution_total{port=2,protocol=UDP} 1",
        ]
    );
}
