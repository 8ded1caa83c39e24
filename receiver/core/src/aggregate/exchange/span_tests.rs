//! Exchanges that the conventions tell something about, as spans.

use std::sync::Arc;

use super::*;
use crate::aggregate::exchange::owner::Owners;
use crate::aggregate::exchange::{Outcome, said};
use crate::model::flow::{
    Dns, Endpoint, Flow, Http, Ip, Kafka, L4, L7FlowType, L7Record, Labels, Layer7, Pod,
    TraceParent, TrafficDirection, Verdict,
};
use crate::model::metrics::AttributeValue;
use crate::model::resource::{Resource, Value};

const ID: &str = "f058ebd6-02f7-9d3f-942e-904344e8cde5";

fn flow(kind: L7FlowType, direction: TrafficDirection, record: L7Record) -> Flow {
    let ends = [("10.0.0.1", 40_000), ("10.0.0.2", 80)];
    let ((source, source_port), (destination, destination_port)) = match kind {
        L7FlowType::REQUEST => (ends[0], ends[1]),
        _ => (ends[1], ends[0]),
    };
    Flow {
        verdict: Verdict::FORWARDED,
        direction,
        ip: Some(Ip {
            source: source.parse().ok(),
            destination: destination.parse().ok(),
            ..Ip::default()
        }),
        l4: Some(L4::Tcp {
            source_port,
            destination_port,
            flags: None,
        }),
        l7: Some(Box::new(Layer7 {
            kind,
            status: match &record {
                L7Record::Http(http) => http.code,
                _ => 0,
            },
            record,
            ..Layer7::default()
        })),
        ..Flow::default()
    }
}

fn http(method: &str, url: &str, code: u32) -> L7Record {
    L7Record::Http(Http {
        code,
        method: method.into(),
        url: url.into(),
        protocol: "HTTP/1.1".into(),
        headers: vec![
            ("Host".into(), "shop.example:8080".into()),
            ("User-Agent".into(), "curl/8".into()),
        ],
    })
}

fn exchange(
    direction: TrafficDirection,
    request: L7Record,
    response: Option<L7Record>,
) -> Exchange {
    Exchange {
        request: Some(flow(L7FlowType::REQUEST, direction, request)),
        outcome: match response {
            Some(_) => Outcome::Answered,
            None => Outcome::Denied,
        },
        response: response.map(|record| flow(L7FlowType::RESPONSE, direction, record)),
        start_ns: 1_000,
        duration_ns: Some(500),
    }
}

fn span(exchange: &Exchange) -> SpanRecord {
    let said = said::of(exchange).unwrap();
    of(exchange, said, &Arc::default()).unwrap()
}

/// Attributes as `name=value`.
fn told(span: &SpanRecord) -> Vec<String> {
    let keys: Vec<_> = span.attributes.iter().map(|(key, _)| *key).collect();
    assert!(
        keys.is_sorted() && keys.windows(2).all(|two| two[0] != two[1]),
        "{keys:?}"
    );
    span.attributes.iter().map(shown).collect()
}

fn shown((key, value): &(&'static str, AttributeValue)) -> String {
    match value {
        AttributeValue::Value(Value::Text(text)) => format!("{key}={text}"),
        AttributeValue::Value(Value::Int(number)) => format!("{key}={number}"),
        AttributeValue::Value(Value::List(list)) => format!("{key}={}", list.join(",")),
        AttributeValue::Bool(truth) => format!("{key}={truth}"),
    }
}

#[test]
fn an_http_request_seen_at_its_client() {
    let span = span(&exchange(
        TrafficDirection::EGRESS,
        http("GET", "http://u:p@shop.example/a?b=1", 0),
        Some(http("GET", "http://shop.example/a", 404)),
    ));
    assert_eq!((span.name.as_str(), span.kind), ("GET", SpanKind::Client));
    assert_eq!((span.start_unix_ns, span.end_unix_ns), (1_000, 1_500));
    assert_eq!(span.status, SpanStatus::Error(None));
    assert_eq!(
        told(&span),
        [
            "cilium.traffic_direction=EGRESS",
            "cilium.verdict=FORWARDED",
            "error.type=404",
            "http.request.method=GET",
            "http.response.status_code=404",
            "network.peer.address=10.0.0.2",
            "network.peer.port=80",
            "network.protocol.version=1.1",
            "network.transport=tcp",
            "server.address=shop.example",
            "server.port=80",
            "url.full=http://REDACTED:REDACTED@shop.example/a?b=1",
            "url.scheme=http",
            "user_agent.original=curl/8",
        ]
    );
}

#[test]
fn an_http_request_seen_at_its_server() {
    let answered = |code| {
        exchange(
            TrafficDirection::INGRESS,
            http("BREW", "/a?b=1&sig=x", 0),
            Some(http("BREW", "/a", code)),
        )
    };
    let served = span(&answered(404));
    assert_eq!(
        (served.name.as_str(), served.kind),
        ("HTTP", SpanKind::Server)
    );
    assert_eq!(served.status, SpanStatus::Unset);
    assert_eq!(
        told(&served),
        [
            "cilium.traffic_direction=INGRESS",
            "cilium.verdict=FORWARDED",
            "client.address=10.0.0.1",
            "http.request.method=_OTHER",
            "http.request.method_original=BREW",
            "http.response.status_code=404",
            "network.peer.address=10.0.0.1",
            "network.peer.port=40000",
            "network.protocol.version=1.1",
            "network.transport=tcp",
            "server.address=shop.example",
            "server.port=8080",
            "url.path=/a",
            "url.query=b=1&sig=REDACTED",
            "user_agent.original=curl/8",
        ]
    );
    let failed = span(&answered(503));
    assert!(told(&failed).contains(&"error.type=503".to_owned()));
    assert_eq!(failed.status, SpanStatus::Error(None));
    // A code that is none is not shown.
    let odd = span(&answered(u32::MAX));
    assert!(
        !told(&odd)
            .iter()
            .any(|text| text.starts_with("http.response"))
    );
}

#[test]
fn what_policy_denied_or_nobody_answered_is_an_error() {
    let mut denied = exchange(TrafficDirection::EGRESS, http("GET", "/", 0), None);
    assert!(told(&span(&denied)).contains(&"error.type=policy_denied".to_owned()));
    assert_eq!(span(&denied).status, SpanStatus::Error(None));
    // The proxy's answer stands in the record of the request, or in one of its own.
    denied.request.as_mut().unwrap().l7.as_mut().unwrap().status = 403;
    assert!(told(&span(&denied)).contains(&"http.response.status_code=403".to_owned()));
    let mut answered = exchange(
        TrafficDirection::EGRESS,
        http("GET", "/", 0),
        Some(http("GET", "/", 403)),
    );
    answered.outcome = Outcome::Denied;
    let said = told(&span(&answered));
    for expected in ["error.type=policy_denied", "http.response.status_code=403"] {
        assert!(said.contains(&expected.to_owned()), "{said:?}");
    }
    denied.outcome = Outcome::Unanswered;
    assert!(told(&span(&denied)).contains(&"error.type=timeout".to_owned()));
}

#[test]
fn a_dns_question_is_named_by_its_types_and_fails_by_its_code() {
    let dns = |rcode, ips: &[&str]| {
        L7Record::Dns(Dns {
            query: "www.example.com.".into(),
            qtypes: vec![1, 28],
            rcode,
            ips: ips.iter().map(|text| Box::from(*text)).collect(),
            ..Dns::default()
        })
    };
    let good = span(&exchange(
        TrafficDirection::EGRESS,
        dns(0, &[]),
        Some(dns(0, &["192.0.2.1"])),
    ));
    assert_eq!(
        (good.name.as_str(), good.kind),
        ("DNS A,AAAA", SpanKind::Client)
    );
    let said = told(&good);
    for expected in [
        "dns.answers=192.0.2.1",
        "dns.question.name=www.example.com",
        "dns.question.type=A,AAAA",
        "dns.response_code=NOERROR",
        "server.address=10.0.0.2",
    ] {
        assert!(said.contains(&expected.to_owned()), "{said:?}");
    }
    assert_eq!(good.status, SpanStatus::Unset);
    let bad = span(&exchange(
        TrafficDirection::EGRESS,
        dns(0, &[]),
        Some(dns(3, &[])),
    ));
    assert!(told(&bad).contains(&"error.type=nxdomain".to_owned()));
}

#[test]
fn a_kafka_request_is_named_by_operation_and_topic() {
    let kafka = |error_code| {
        L7Record::Kafka(Kafka {
            error_code,
            api_key: "produce".into(),
            topic: "orders".into(),
            ..Kafka::default()
        })
    };
    let span = span(&exchange(
        TrafficDirection::EGRESS,
        kafka(0),
        Some(kafka(3)),
    ));
    assert_eq!(span.name, "produce orders");
    let said = told(&span);
    for expected in [
        "messaging.system=kafka",
        "messaging.operation.type=send",
        "error.type=3",
    ] {
        assert!(said.contains(&expected.to_owned()), "{said:?}");
    }
}

fn with_ids(exchange: &mut Exchange, id: &str, trace: Option<TraceParent>) {
    let l7 = exchange.request.as_mut().unwrap().l7.as_mut().unwrap();
    l7.request_id = id.into();
    l7.trace = trace;
}

#[test]
fn ids_follow_from_the_record_and_the_trace_from_its_headers() {
    let mut egress = exchange(TrafficDirection::EGRESS, http("GET", "/", 0), None);
    let mut ingress = exchange(TrafficDirection::INGRESS, http("GET", "/", 0), None);
    assert_eq!(span(&egress), span(&egress));
    assert_ne!(
        span(&egress).context.trace_id,
        span(&ingress).context.trace_id
    );
    let mut later = egress.clone();
    later.request.as_mut().unwrap().time_ns += 1;
    assert_ne!(span(&egress).context.span_id, span(&later).context.span_id);

    with_ids(&mut egress, ID, None);
    // Another proxy decided otherwise about the trace.
    with_ids(&mut ingress, &ID.replace("-9d3f-", "-4d3f-"), None);
    assert_eq!(
        span(&egress).context.trace_id,
        span(&ingress).context.trace_id
    );
    assert_ne!(
        span(&egress).context.span_id,
        span(&ingress).context.span_id
    );
    assert_eq!(span(&egress).parent_span_id, None);
    with_ids(&mut ingress, "1", None);
    assert_ne!(
        span(&egress).context.trace_id,
        span(&ingress).context.trace_id
    );

    let parent = TraceParent {
        trace_id: [7; 16],
        span_id: [8; 8],
        flags: 1,
    };
    with_ids(&mut egress, ID, Some(parent));
    let child = span(&egress);
    assert_eq!(
        (child.context.trace_id, child.parent_span_id),
        ([7; 16], Some([8; 8]))
    );
    assert!(child.context.is_sampled() && child.context.flags == 1);
    assert!(child.parent_is_remote && child.context.span_id != [8; 8]);
}

#[test]
fn the_callers_decision_about_the_trace_holds() {
    let mut exchange = exchange(TrafficDirection::EGRESS, http("GET", "/", 0), None);
    assert!(span(&exchange).context.is_sampled());
    for (flags, is_sampled) in [(0, false), (1, true), (2, false), (3, true)] {
        let parent = TraceParent {
            trace_id: [7; 16],
            span_id: [8; 8],
            flags,
        };
        with_ids(&mut exchange, ID, Some(parent));
        let context = span(&exchange).context;
        assert_eq!((context.flags, context.is_sampled()), (flags, is_sampled));
        // The records of both directions name the same span, recorded or not.
        assert_eq!(
            super::context(exchange.request.as_ref().unwrap()),
            Some(context)
        );
    }
}

#[test]
fn only_a_uuid_becomes_a_trace_id() {
    assert!(uuid(ID).is_some());
    let zero = "00000000-0000-4000-0000-000000000000";
    for bad in [
        "",
        "1",
        ID.trim_start_matches('f'),
        &ID.replace('-', "0"),
        &ID.replace('f', "g"),
        zero,
    ] {
        assert_eq!(uuid(bad), None, "{bad}");
    }
}

#[test]
fn a_span_belongs_to_the_pod_at_whose_proxy_it_was_seen() {
    let node = Arc::new(Resource {
        attributes: vec![
            ("host.name", Value::Text("node-a".into())),
            ("service.name", Value::Text("unknown_service".into())),
        ],
        extra: vec![],
    });
    let mut owners = Owners::new(Arc::clone(&node));
    let mut request = flow(
        L7FlowType::REQUEST,
        TrafficDirection::INGRESS,
        L7Record::None,
    );
    assert!(Arc::ptr_eq(&owners.of(&request), &node));
    let labels = |list: &[&str]| {
        Some(Arc::new(Labels {
            list: list.iter().map(|text| Box::from(*text)).collect(),
            ..Labels::default()
        }))
    };
    let told = |owners: &mut Owners, request: &Flow| {
        let resource = owners.of(request);
        assert!(Arc::ptr_eq(&resource, &owners.of(request)));
        let pairs = resource.attributes.iter();
        let pairs = pairs.map(|(key, value)| shown(&(*key, AttributeValue::Value(value.clone()))));
        pairs.collect::<Vec<_>>().join(" ")
    };
    request.destination = Endpoint {
        labels: labels(&["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"]),
        ..Endpoint::default()
    };
    assert_eq!(
        told(&mut owners, &request),
        "host.name=node-a k8s.namespace.name=shop service.name=web service.namespace=shop"
    );
    request.destination.pod = Some(Arc::new(Pod {
        namespace: "shop".into(),
        name: "web-1".into(),
        ..Pod::default()
    }));
    assert_eq!(
        told(&mut owners, &request),
        "host.name=node-a k8s.namespace.name=shop k8s.pod.name=web-1 service.instance.id=shop.web-1 service.name=web service.namespace=shop"
    );
}
