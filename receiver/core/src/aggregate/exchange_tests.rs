//! What becomes of requests and responses, in the orders in which proxies log them.

use super::*;
use crate::enrich::cilium::requests::{End, question};
use crate::model::flow::{Dns, Generic, Http, Ip, IpVersion, L4, TrafficDirection};

const MS: i64 = 1_000_000;
const CLIENT: &str = "10.0.0.1:40000";
const SERVER: &str = "10.0.0.2:80";

fn end(text: &str) -> End {
    let address: std::net::SocketAddr = text.parse().unwrap();
    (Some(address.ip()), address.port())
}

/// A record between these ends, the client first.
fn between(
    (client, server): (&str, &str),
    kind: L7FlowType,
    time: i64,
    id: &str,
    record: L7Record,
) -> Flow {
    let (source, destination) = if kind == L7FlowType::REQUEST {
        (end(client), end(server))
    } else {
        (end(server), end(client))
    };
    Flow {
        time_ns: u64::try_from(time).unwrap(),
        verdict: Verdict::FORWARDED,
        ip: Some(Ip {
            source: source.0,
            destination: destination.0,
            version: IpVersion::IPv4,
            ..Ip::default()
        }),
        l4: Some(L4::Tcp {
            source_port: source.1,
            destination_port: destination.1,
            flags: None,
        }),
        l7: Some(Box::new(Layer7 {
            kind,
            question: question(&record, id),
            status: match &record {
                L7Record::Http(http) => http.code,
                _ => 0,
            },
            record,
            record_time_ns: time,
            request_id: id.into(),
            ..Layer7::default()
        })),
        ..Flow::default()
    }
}

fn flow(kind: L7FlowType, time: i64, id: &str, record: L7Record) -> Flow {
    between((CLIENT, SERVER), kind, time, id, record)
}

fn get(url: &str, protocol: &str, code: u32) -> L7Record {
    L7Record::Http(Http {
        code,
        method: "GET".into(),
        url: url.into(),
        protocol: protocol.into(),
        ..Http::default()
    })
}

fn http(kind: L7FlowType, time: i64, id: &str) -> Flow {
    flow(kind, time, id, get("/", "HTTP/2", 0))
}

fn dns(kind: L7FlowType, time: i64, qtype: u16) -> Flow {
    let dns = Dns {
        query: "a.".into(),
        qtypes: vec![qtype],
        ..Dns::default()
    };
    flow(kind, time, "", L7Record::Dns(dns))
}

fn table(capacity: usize) -> Exchanges {
    Exchanges::new(ExchangeOptions {
        capacity,
        timeout_ns: 100,
        ..ExchangeOptions::default()
    })
}

/// How it ended, when it began, how long it took.
type Seen = (Outcome, u64, Option<u64>);

fn seen(exchange: &Exchange) -> Seen {
    (exchange.outcome, exchange.start_ns, exchange.duration_ns)
}

fn observe(table: &mut Exchanges, flow: &Flow) -> Vec<Seen> {
    let mut out = Vec::new();
    table.observe(flow, |exchange| out.push(seen(&exchange)));
    out
}

/// Path, status, milliseconds of all exchanges that these records make.
fn answered(records: &[Flow]) -> Vec<(String, u32, u64)> {
    let mut table = Exchanges::new(ExchangeOptions::default());
    let mut out = Vec::new();
    for record in records {
        table.observe(record, |exchange| {
            assert_eq!(exchange.outcome, Outcome::Answered);
            let Some(L7Record::Http(http)) = exchange.request.as_ref().unwrap().l7_record() else {
                panic!("no HTTP");
            };
            let response = exchange.response.as_ref().unwrap().l7.as_deref().unwrap();
            let took = exchange.duration_ns.unwrap() / MS.unsigned_abs();
            out.push((http.url.to_string(), response.status, took));
        });
    }
    assert!(table.is_empty());
    out.sort();
    out
}

const REQUEST: L7FlowType = L7FlowType::REQUEST;
const RESPONSE: L7FlowType = L7FlowType::RESPONSE;

#[test]
fn a_response_finds_its_request_by_its_id() {
    let mut table = table(8);
    assert_eq!(observe(&mut table, &http(REQUEST, 10, "a")), []);
    assert_eq!(observe(&mut table, &http(REQUEST, 20, "b")), []);
    let answered = [(Outcome::Answered, 10, Some(20))];
    assert_eq!(observe(&mut table, &http(RESPONSE, 30, "a")), answered);
    let unknown = [(Outcome::ResponseOnly, 31, None)];
    assert_eq!(observe(&mut table, &http(RESPONSE, 31, "a")), unknown);
    assert_eq!(table.len(), 1);
}

#[test]
fn parallel_requests_that_share_an_id_are_told_apart() {
    // Two connections, and two streams of one connection.
    for (second, protocol) in [("10.0.0.1:40001", "HTTP/1.1"), (CLIENT, "HTTP/2")] {
        let a = |kind, time, code| {
            let record = get("/a", protocol, code);
            between((CLIENT, SERVER), kind, time * MS, "same", record)
        };
        let b = |kind, time, code| {
            let record = get("/b", protocol, code);
            between((second, SERVER), kind, time * MS, "same", record)
        };
        let records = [
            a(REQUEST, 100, 0),
            b(REQUEST, 101, 0),
            a(RESPONSE, 105, 500),
            b(RESPONSE, 150, 200),
        ];
        let expected = [("/a".to_owned(), 500, 5), ("/b".to_owned(), 200, 49)];
        assert_eq!(answered(&records), expected, "{protocol}");
    }
}

#[test]
fn requests_that_differ_only_in_what_redaction_takes_out_are_told_apart() {
    // The question is made of the record before redaction, the flow shows it afterwards.
    let redacted = |kind, time, page: &str, code| {
        let whole = get(&format!("/list?page={page}"), "HTTP/2", code);
        let mut flow = flow(kind, time * MS, "same", whole);
        flow.l7.as_mut().unwrap().record = get("/list", "HTTP/2", code);
        flow
    };
    let records = [
        redacted(REQUEST, 100, "1", 0),
        redacted(REQUEST, 101, "2", 0),
        redacted(RESPONSE, 102, "1", 500),
        redacted(RESPONSE, 111, "2", 200),
    ];
    let expected = [("/list".to_owned(), 200, 10), ("/list".to_owned(), 500, 2)];
    assert_eq!(answered(&records), expected);
}

#[test]
fn a_chain_of_calls_with_one_id_is_as_many_exchanges() {
    let call = |n: usize, kind, time: i64, code| {
        let ends = [
            ("10.0.0.1:40000", "10.0.0.2:80"),
            ("10.0.0.2:41000", "10.0.0.3:80"),
            ("10.0.0.3:42000", "10.0.0.4:80"),
        ];
        let url = format!("/{n}");
        let record = get(&url, "HTTP/1.1", code);
        between(ends[n], kind, time * MS, "same", record)
    };
    let records = [
        call(0, REQUEST, 0, 0),
        call(1, REQUEST, 10, 0),
        call(2, REQUEST, 20, 0),
        call(2, RESPONSE, 25, 503),
        call(1, RESPONSE, 32, 502),
        call(0, RESPONSE, 45, 500),
    ];
    let expected = [(503, 5, 2), (502, 22, 1), (500, 45, 0)]
        .map(|(code, took, n)| (format!("/{n}"), code, took));
    let mut expected = expected.to_vec();
    expected.sort();
    // A time of zero is none: the first request is counted from its read, which is the same here.
    assert_eq!(answered(&records), expected);
}

#[test]
fn the_same_request_at_two_points_is_two_exchanges() {
    let mut table = table(8);
    let at = |kind, time, direction| Flow {
        direction,
        ..http(kind, time, "a")
    };
    observe(&mut table, &at(REQUEST, 10, TrafficDirection::EGRESS));
    observe(&mut table, &at(REQUEST, 12, TrafficDirection::INGRESS));
    let ingress = observe(&mut table, &at(RESPONSE, 20, TrafficDirection::INGRESS));
    assert_eq!(ingress, [(Outcome::Answered, 12, Some(8))]);
    let egress = observe(&mut table, &at(RESPONSE, 22, TrafficDirection::EGRESS));
    assert_eq!(egress, [(Outcome::Answered, 10, Some(12))]);
}

#[test]
fn without_an_id_the_ends_and_the_question_tell() {
    let mut table = table(8);
    observe(&mut table, &dns(REQUEST, 10, 1));
    observe(&mut table, &dns(REQUEST, 11, 28));
    assert_eq!(
        observe(&mut table, &dns(RESPONSE, 20, 28)),
        [(Outcome::Answered, 11, Some(9))]
    );
    assert_eq!(
        observe(&mut table, &dns(RESPONSE, 21, 1)),
        [(Outcome::Answered, 10, Some(11))]
    );
}

#[test]
fn a_question_that_is_asked_again_leaves_the_lost_one_a_timeout() {
    let mut table = Exchanges::new(ExchangeOptions::default());
    let second = 1000 * MS;
    observe(&mut table, &dns(REQUEST, second, 1));
    // The resolver asks again from the same port, and is answered at once.
    assert_eq!(observe(&mut table, &dns(REQUEST, 6 * second, 1)), []);
    let answered = observe(&mut table, &dns(RESPONSE, 6 * second + 2 * MS, 1));
    let start = (6 * second).unsigned_abs();
    assert_eq!(answered, [(Outcome::Answered, start, Some(2_000_000))]);
    let mut expired = Vec::new();
    table.expire(31_000_000_000, |exchange| expired.push(seen(&exchange)));
    let lost = (Outcome::Unanswered, 1_000_000_000, Some(30_000_000_000));
    assert_eq!((expired, table.len()), (vec![lost], 0));
}

#[test]
fn the_next_request_of_a_connection_shows_that_the_one_before_was_answered() {
    let one = |kind, time, url: &str| flow(kind, time, "", get(url, "HTTP/1.1", 0));
    let mut table = table(8);
    observe(&mut table, &one(REQUEST, 10, "/a"));
    let given_up = observe(&mut table, &one(REQUEST, 30, "/b"));
    assert_eq!(given_up, [(Outcome::Superseded, 10, None)]);
    let answered = observe(&mut table, &one(RESPONSE, 35, "/b"));
    assert_eq!(answered, [(Outcome::Answered, 30, Some(5))]);
}

fn denied(time: i64, code: u32) -> Flow {
    Flow {
        verdict: Verdict::DROPPED,
        ..flow(REQUEST, time, "", get("/secret", "HTTP/1.1", code))
    }
}

#[test]
fn a_denied_request_takes_the_status_of_the_proxys_answer() {
    let mut table = table(8);
    assert_eq!(observe(&mut table, &denied(10, 0)), []);
    // The proxy's own answer passes.
    let answer = flow(RESPONSE, 12, "", get("/secret", "HTTP/1.1", 403));
    assert_eq!(
        observe(&mut table, &answer),
        [(Outcome::Denied, 10, Some(2))]
    );
    // Some proxies log the entry once more, with what is in it by now.
    assert_eq!(
        observe(&mut table, &denied(12, 403)),
        [(Outcome::Repeated, 12, None)]
    );
    assert_eq!(
        observe(&mut table, &denied(14, 403)),
        [(Outcome::Denied, 14, None)]
    );
    assert!(table.is_empty());
}

#[test]
fn a_denied_request_without_an_answer_stays_denied() {
    let mut table = table(8);
    observe(&mut table, &denied(10, 0));
    assert_eq!(
        observe(&mut table, &denied(20, 0)),
        [(Outcome::Denied, 10, None)]
    );
    let mut expired = Vec::new();
    table.expire(120, |exchange| expired.push(seen(&exchange)));
    assert_eq!(expired, [(Outcome::Denied, 20, None)]);
    // No record of an answer follows what other protocols denied.
    let dns = Flow {
        verdict: Verdict::DROPPED,
        ..dns(REQUEST, 30, 1)
    };
    assert_eq!(observe(&mut table, &dns), [(Outcome::Denied, 30, None)]);
}

#[test]
fn what_waits_too_long_or_finds_no_room_is_given_up() {
    let mut table = table(2);
    observe(&mut table, &http(REQUEST, 10, "a"));
    observe(&mut table, &http(REQUEST, 20, "b"));
    let given_up = observe(&mut table, &http(REQUEST, 30, "c"));
    assert_eq!(given_up, [(Outcome::NoRoom, 10, None)]);
    let mut expired = Vec::new();
    table.expire(119, |exchange| expired.push(seen(&exchange)));
    assert_eq!(expired, []);
    table.expire(120, |exchange| expired.push(seen(&exchange)));
    let late = (Outcome::Unanswered, 20, Some(100));
    assert_eq!((expired, table.len()), (vec![late], 1));
    assert_eq!(table.close(|_| panic!("nothing is known of it")), 1);
    assert!(table.is_empty());
}

#[test]
fn large_records_find_less_room() {
    let mut table = Exchanges::new(ExchangeOptions {
        bytes: 100_000,
        ..ExchangeOptions::default()
    });
    let url = "x".repeat(60_000);
    let large = |time, id: &str| flow(REQUEST, time, id, get(&url, "HTTP/2", 0));
    assert_eq!(observe(&mut table, &large(10, "a")), []);
    assert_eq!(
        observe(&mut table, &large(20, "b")),
        [(Outcome::NoRoom, 10, None)]
    );
    assert_eq!(observe(&mut table, &http(REQUEST, 30, "c")), []);
    assert_eq!(table.len(), 2);
}

#[test]
fn a_generic_request_without_a_response_claims_no_timeout() {
    let generic = |time| {
        let generic = Generic {
            protocol: "cassandra".into(),
            ..Generic::default()
        };
        flow(REQUEST, time, "", L7Record::Generic(generic))
    };
    let mut table = table(2);
    observe(&mut table, &generic(10));
    observe(&mut table, &generic(20));
    let request_only = |start| (Outcome::RequestOnly, start, None);
    assert_eq!(observe(&mut table, &generic(30)), [request_only(10)]);
    let mut out = Vec::new();
    table.expire(120, |exchange| out.push(seen(&exchange)));
    assert_eq!(table.close(|exchange| out.push(seen(&exchange))), 0);
    assert_eq!(out, [request_only(20), request_only(30)]);
}

#[test]
fn other_flows_are_left() {
    let mut table = table(4);
    assert_eq!(observe(&mut table, &Flow::default()), []);
    let nothing = flow(REQUEST, 1, "a", L7Record::None);
    assert!(!table.observe(&nothing, |_| {}));
    assert_eq!(observe(&mut table, &http(L7FlowType::SAMPLE, 1, "a")), []);
}
