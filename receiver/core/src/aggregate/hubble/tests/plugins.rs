//! Each plugin with the flows that it counts and those it does not.

use super::*;

#[test]
fn drops_without_a_name_show_their_number() {
    let drop = Flow {
        drop_reason: DropReason(206),
        l4: None,
        ..dropped()
    };
    assert_eq!(
        counted(&["drop"], &[drop, tcp(2)]),
        ["drop_total{protocol=Unknown L4,reason=206} 1"]
    );
}

#[test]
fn flows_are_told_apart_by_type_and_subtype() {
    let event = |kind, sub_type| Flow {
        event_type: EventType { kind, sub_type },
        ..tcp(2)
    };
    let generic = l7(L7FlowType::SAMPLE, L7Record::None);
    assert_eq!(
        counted(
            &["flow"],
            &[
                event(4, 3),
                event(4, 99),
                event(3, 4),
                event(5, 0),
                event(7, 1),
                http(L7FlowType::REQUEST),
                generic
            ]
        ),
        [
            "flows_processed_total{protocol=HTTP,subtype=HTTP,type=L7,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=TCP,subtype=,type=Capture,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=TCP,subtype=,type=PolicyVerdict,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=TCP,subtype=,type=Trace,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=TCP,subtype=to-stack,type=Trace,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=Unknown L7,subtype=,type=L7,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=Unknown flow,subtype=7,type=Unknown,verdict=FORWARDED} 1",
        ]
    );
}

#[test]
fn tcp_flags_count_once_each() {
    let redirected = Flow {
        verdict: Verdict::REDIRECTED,
        ..tcp(0x12)
    };
    let without_flags = l7(L7FlowType::REQUEST, L7Record::None);
    assert_eq!(
        counted(
            &["tcp"],
            &[redirected, tcp(0x05), tcp(0x10), dropped(), without_flags]
        ),
        [
            "tcp_flags_total{family=IPv4,flag=FIN} 1",
            "tcp_flags_total{family=IPv4,flag=RST} 1",
            "tcp_flags_total{family=IPv4,flag=SYN-ACK} 1",
        ]
    );
}

#[test]
fn dns_queries_and_responses_are_apart() {
    let dns = |kind, qtypes: &[u16]| {
        l7(
            kind,
            L7Record::Dns(Dns {
                query: "a.b.".into(),
                ips: vec!["1.2.3.4".into(), "1.2.3.5".into()],
                rcode: 3,
                qtypes: qtypes.to_vec(),
                rrtypes: vec![5, 1, 1],
                ..Dns::default()
            }),
        )
    };
    let denied = Flow {
        verdict: Verdict::DROPPED,
        ..dns(L7FlowType::REQUEST, &[1])
    };
    let flows = [
        dns(L7FlowType::REQUEST, &[1, 28]),
        dns(L7FlowType::RESPONSE, &[1]),
        denied,
        dns(L7FlowType::REQUEST, &[28]),
    ];
    assert_eq!(
        counted(&["dns:query;ignoreAAAA"], &flows),
        [
            "dns_queries_total{ips_returned=2,qtypes=A,AAAA,query=a.b.,rcode=} 1",
            "dns_queries_total{ips_returned=2,qtypes=A,query=a.b.,rcode=Policy denied} 1",
            "dns_response_types_total{qtypes=A,query=a.b.,type=A} 2",
            "dns_response_types_total{qtypes=A,query=a.b.,type=CNAME} 1",
            "dns_responses_total{ips_returned=2,qtypes=A,query=a.b.,rcode=Non-Existent Domain} 1",
        ]
    );
    assert_eq!(
        counted(&["dns"], &flows[3..]),
        ["dns_queries_total{ips_returned=2,qtypes=AAAA,rcode=} 1"]
    );
}

#[test]
fn http_keeps_the_ends_and_http_v2_exchanges_them() {
    let flows = [
        http(L7FlowType::REQUEST),
        http(L7FlowType::RESPONSE),
        http(L7FlowType::SAMPLE),
    ];
    assert_eq!(
        counted(&["http:sourceContext=pod"], &flows),
        [
            "http_request_duration_seconds{method=GET,reporter=client,source=a/s} 1 0.25",
            "http_requests_total{method=GET,protocol=HTTP/1.1,reporter=client,source=a/s} 1",
            "http_responses_total{method=GET,protocol=HTTP/1.1,reporter=client,source=a/s,status=200} 1",
        ]
    );
    assert_eq!(
        counted(
            &[
                "httpV2:sourceContext=ip;destinationContext=pod;labelsContext=source_ip,source_pod;exemplars=true"
            ],
            &flows
        ),
        [
            "http_request_duration_seconds{destination=10.0.0.1,method=GET,reporter=client,source=,source_ip=10.0.0.2,\
             source_pod=} 1 0.25",
            "http_requests_total{destination=10.0.0.1,method=GET,protocol=HTTP/1.1,reporter=client,source=,source_ip=10.0.0.2,\
             source_pod=,status=200} 1",
        ]
    );
}

#[test]
fn icmp_kafka_sctp_and_ports_are_counted() {
    let icmp = Flow {
        l4: Some(L4::Icmpv6 { kind: 128, code: 0 }),
        ..dropped()
    };
    let sctp = |chunk_type| Flow {
        l4: Some(L4::Sctp {
            source_port: 1,
            destination_port: 2905,
            chunk_type,
        }),
        ..tcp(0)
    };
    let kafka = l7(
        L7FlowType::REQUEST,
        L7Record::Kafka(Kafka {
            api_key: "produce".into(),
            topic: "t".into(),
            error_code: -1,
            ..Kafka::default()
        }),
    );
    let reply = Flow {
        is_reply: None,
        ..tcp(2)
    };
    assert_eq!(
        counted(
            &["icmp", "kafka", "sctp", "port-distribution"],
            &[
                icmp,
                sctp(SctpChunkType::INIT),
                sctp(SctpChunkType::UNSUPPORTED),
                kafka,
                reply
            ]
        ),
        [
            "icmp_total{family=IPv6,type=EchoRequest} 1",
            "kafka_request_duration_seconds{api_key=produce,reporter=client,topic=t} 1 0.25",
            "kafka_requests_total{api_key=produce,error_code=-1,reporter=client,topic=t} 1",
            "port_distribution_total{port=2905,protocol=SCTP} 2",
            "port_distribution_total{port=80,protocol=TCP} 1",
            "sctp_chunk_types_total{chunk_type=INIT,family=IPv4} 1",
        ]
    );
}

#[test]
fn policy_verdicts_leave_out_the_host() {
    let verdict = |identity| Flow {
        event_type: EventType {
            kind: 5,
            sub_type: 0,
        },
        policy_match_type: 2,
        source: Endpoint {
            identity,
            ..Endpoint::default()
        },
        ..tcp(2)
    };
    assert_eq!(
        counted(
            &["policy"],
            &[
                verdict(1),
                verdict(1001),
                http(L7FlowType::REQUEST),
                dropped()
            ]
        ),
        [
            "policy_verdicts_total{action=forwarded,direction=egress,match=l3-l4} 1",
            "policy_verdicts_total{action=forwarded,direction=egress,match=l7/http} 1",
        ]
    );
}

#[test]
fn flows_to_the_world_leave_out_replies_and_other_drops() {
    let other_drop = Flow {
        drop_reason: DropReason(150),
        ..dropped()
    };
    let reply = Flow {
        is_reply: Some(true),
        ..tcp(2)
    };
    let inside = Flow {
        destination: endpoint("a", "s", &["k8s:app=x"]),
        ..tcp(2)
    };
    let flows = [tcp(2), tcp(0x10), dropped(), other_drop, reply, inside];
    assert_eq!(
        counted(&["flows-to-world:port"], &flows),
        [
            "flows_to_world_total{port=80,protocol=TCP,verdict=DROPPED} 1",
            "flows_to_world_total{port=80,protocol=TCP,verdict=FORWARDED} 2",
        ]
    );
    assert_eq!(
        counted(&["flows-to-world:syn-only;any-drop"], &flows),
        [
            "flows_to_world_total{protocol=TCP,verdict=DROPPED} 2",
            "flows_to_world_total{protocol=TCP,verdict=FORWARDED} 1",
        ]
    );
}

#[test]
fn exemplars_are_the_newest_traces_of_a_series_and_of_each_bucket() {
    let of_trace = |trace: u8, latency_ms: u64| {
        let mut flow = http(L7FlowType::RESPONSE);
        let l7 = flow.l7.as_mut().unwrap();
        l7.latency_ns = latency_ms * 1_000_000;
        l7.trace = (trace != 0).then_some(TraceParent {
            trace_id: [trace; 16],
            span_id: [9; 8],
            flags: 1,
        });
        Flow {
            time_ns: u64::from(trace),
            ..flow
        }
    };
    let flows = [(1, 3), (2, 4), (3, 2_000), (0, 1)].map(|(trace, ms)| of_trace(trace, ms));
    let traces = |plugin: &str| -> Vec<Vec<(u8, f64)>> {
        let mut metrics = metrics(&[plugin]);
        for flow in &flows {
            metrics.observe(flow, &Node::default());
        }
        let exported = metrics.export(&ResourceRef::default(), SECOND).unwrap();
        let exemplars = exported
            .metrics
            .iter()
            .flat_map(|metric| match &metric.data {
                Data::Sum { points, .. } | Data::Gauge(points) => points
                    .iter()
                    .map(|point| &point.exemplars)
                    .collect::<Vec<_>>(),
                Data::Histogram { points, .. } => {
                    points.iter().map(|point| &point.exemplars).collect()
                }
            });
        exemplars
            .map(|exemplars| {
                for exemplar in exemplars {
                    let trace = format!("{:02x}", exemplar.trace_id[0]).repeat(16);
                    assert_eq!(labels(&exemplar.attributes), format!("traceID={trace}"));
                    assert_eq!(exemplar.unix_ns, u64::from(exemplar.trace_id[0]));
                }
                exemplars.iter().map(|e| (e.trace_id[0], e.value)).collect()
            })
            .collect()
    };
    for plugin in ["httpV2", "http"] {
        let with = traces(&format!("{plugin}:exemplars=true;sourceContext=ip"));
        assert_eq!(
            with,
            [vec![(3, 1.0)], vec![(2, 0.004), (3, 2.0)]],
            "{plugin}"
        );
    }
    // As in Hubble, anything else than `true` leaves them out.
    for without in ["httpV2", "httpV2:exemplars", "httpV2:exemplars=false"] {
        assert!(traces(without).iter().all(Vec::is_empty), "{without}");
    }
}
