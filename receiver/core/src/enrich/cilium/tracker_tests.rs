use std::sync::Arc;

use super::*;
use crate::decode::cilium::agent::{Notification, agent_event};
use crate::enrich::cilium::LocalEndpoint;
use crate::enrich::cilium::answer::Answer;
use crate::model::flow::{Dns, Ip, L4, Layer7, Pod};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(name: &str) -> Arc<Pod> {
    Arc::new(Pod {
        namespace: "shop".into(),
        name: name.into(),
        ..Pod::default()
    })
}

fn notify(tracker: &mut Tracker, kind: u64, text: &str, time_ns: u64) {
    let text = text.into();
    tracker.notified(&agent_event(&Notification { kind, text }, time_ns));
}

/// The ip cache has a pod at an address, or no pod.
fn upsert(tracker: &mut Tracker, address: &str, identity: u32, pod: &str, time_ns: u64) {
    let name = match pod {
        "" => String::new(),
        pod => format!(r#","namespace":"shop","pod-name":"{pod}""#),
    };
    let length = if address.contains(':') { 128 } else { 32 };
    let text = format!(r#"{{"cidr":"{address}/{length}","id":{identity}{name}}}"#);
    notify(tracker, 9, &text, time_ns);
}

fn delete(tracker: &mut Tracker, address: &str, time_ns: u64) {
    let text = format!(r#"{{"cidr":"{address}/32","id":1}}"#);
    notify(tracker, 10, &text, time_ns);
}

fn endpoint(id: u16, name: &str, addresses: &[&str]) -> LocalEndpoint {
    LocalEndpoint {
        id,
        identity: u32::from(id) + 1000,
        pod: Some(pod(name)),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        ..LocalEndpoint::default()
    }
}

fn table(tracker: &mut Tracker, table: Table, asked_ns: u64, fill: impl FnOnce(&mut Directory)) {
    let mut filled = Box::new(Directory::default());
    fill(&mut filled);
    let content = Content::Table(table, filled);
    tracker.apply(Change { asked_ns, content });
}

/// Id, identity and pod of an address.
fn who(tracker: &Tracker, address: &str) -> (u32, u32, String) {
    let end = tracker.directory().resolve(Some(ip(address)), 0);
    (end.id, end.identity, end.pod_name().to_owned())
}

fn changes(tracker: &mut Tracker) -> Vec<String> {
    let text = |change| match change {
        PodChange::There(pod) => format!("+{}", pod.name),
        PodChange::Gone(pod) => format!("-{}", pod.name),
    };
    tracker.take_pods().into_iter().map(text).collect()
}

#[test]
fn what_was_notified_while_a_list_was_under_way_is_newer_than_the_list() {
    let mut tracker = Tracker::default();
    upsert(&mut tracker, "10.0.9.2", 2, "", 5);
    upsert(&mut tracker, "10.0.9.3", 3, "", 10);
    delete(&mut tracker, "10.0.9.1", 11);
    table(&mut tracker, Table::Prefixes, 10, |filled| {
        filled.set_prefix(ip("10.0.9.1"), 32, 1, None);
    });
    let known = |text| tracker.directory().identity_at(ip(text));
    assert_eq!(known("10.0.9.1"), None);
    assert_eq!(known("10.0.9.2"), None);
    assert_eq!(known("10.0.9.3"), Some(3));
}

#[test]
fn an_endpoint_that_is_gone_stays_known_for_a_minute() {
    let mut tracker = Tracker::default();
    for (id, text) in [(7, "10.0.0.7"), (8, "10.0.0.8")] {
        tracker.directory.set_endpoint(endpoint(id, "web", &[text]));
        notify(&mut tracker, 8, &format!(r#"{{"id":{id}}}"#), SECOND);
    }
    table(&mut tracker, Table::Endpoints, 2, |_| {});
    assert_eq!(who(&tracker, "10.0.0.7").0, 7);
    tracker.advance(GRACE_NS);
    assert!(tracker.directory().endpoint(7).is_some());
    // 8 is in use again.
    notify(&mut tracker, 7, r#"{"id":8}"#, GRACE_NS);
    tracker.advance(GRACE_NS + SECOND);
    assert!(tracker.directory().endpoint(7).is_none());
    assert!(tracker.directory().endpoint(8).is_some());
    assert_eq!(who(&tracker, "10.0.0.7").0, 0);
}

#[test]
fn the_address_of_a_gone_endpoint_belongs_to_its_next_owner_at_once() {
    let mut tracker = Tracker::default();
    let old = endpoint(7, "old", &["10.0.0.7", "fd00::7"]);
    tracker.directory.set_endpoint(old);
    notify(&mut tracker, 8, r#"{"id":7}"#, SECOND);
    let old = (7, 1007, "old".to_owned());
    assert_eq!(who(&tracker, "10.0.0.7"), old);
    upsert(&mut tracker, "10.0.0.7", 2002, "new", 2 * SECOND);
    let new = (0, 2002, "new".to_owned());
    assert_eq!(who(&tracker, "10.0.0.7"), new);
    // Late events of the old one find it by its other address.
    assert_eq!(who(&tracker, "fd00::7"), old);
    // Lists change nothing about it.
    table(&mut tracker, Table::Endpoints, 3 * SECOND, |_| {});
    table(&mut tracker, Table::Prefixes, 3 * SECOND, |filled| {
        filled.set_prefix(ip("10.0.0.7"), 32, 2002, Some(pod("new")));
        filled.set_prefix(ip("fd00::7"), 128, 2003, Some(pod("newer")));
    });
    assert_eq!(who(&tracker, "10.0.0.7"), new);
    assert_eq!(who(&tracker, "fd00::7"), (0, 2003, "newer".to_owned()));
}

#[test]
fn an_owner_that_is_no_pod_takes_the_address_of_a_gone_endpoint_only() {
    let mut tracker = Tracker::default();
    tracker
        .directory
        .set_endpoint(endpoint(7, "old", &["10.0.0.7"]));
    upsert(&mut tracker, "10.0.0.7", 1007, "", SECOND);
    upsert(&mut tracker, "10.0.0.7", 1007, "old", SECOND);
    assert_eq!(who(&tracker, "10.0.0.7").0, 7);
    notify(&mut tracker, 8, r#"{"id":7}"#, 2 * SECOND);
    upsert(&mut tracker, "10.0.0.7", 6, "", 3 * SECOND);
    assert_eq!(who(&tracker, "10.0.0.7"), (0, 6, String::new()));
}

#[test]
fn an_endpoint_whose_end_was_not_notified_loses_its_address_to_another_pod() {
    let mut tracker = Tracker::default();
    tracker
        .directory
        .set_endpoint(endpoint(7, "old", &["10.0.0.7"]));
    upsert(&mut tracker, "10.0.0.7", 2002, "new", SECOND);
    assert_eq!(who(&tracker, "10.0.0.7"), (0, 2002, "new".to_owned()));
    assert!(tracker.directory().endpoint(7).is_some());
}

#[test]
fn an_answer_that_is_older_than_the_end_of_its_endpoint_takes_no_address_back() {
    let mut tracker = Tracker::default();
    notify(&mut tracker, 7, r#"{"id":7}"#, SECOND);
    notify(&mut tracker, 8, r#"{"id":7}"#, 2 * SECOND);
    upsert(&mut tracker, "10.0.0.7", 2002, "new", 2 * SECOND);
    let answer = Answer {
        asked_ns: SECOND,
        path: "endpoint/7",
        body: br#"{"id":7,"status":{"identity":{"id":1007,"labels":[]},
            "external-identifiers":{"k8s-pod-name":"old","k8s-namespace":"shop"},
            "networking":{"addressing":[{"ipv4":"10.0.0.7","ipv6":"fd00::7"}]}}}"#,
    };
    tracker.apply(answer.change().unwrap());
    assert_eq!(who(&tracker, "10.0.0.7"), (0, 2002, "new".to_owned()));
    // Late events of it find it by the address that it still has, until the next owner comes, pod or not.
    assert_eq!(who(&tracker, "fd00::7"), (7, 1007, "old".to_owned()));
    upsert(&mut tracker, "fd00::7", 6, "", 3 * SECOND);
    assert_eq!(who(&tracker, "fd00::7"), (0, 6, String::new()));
}

#[test]
fn a_pod_is_gone_with_its_last_address() {
    let mut tracker = Tracker::default();
    upsert(&mut tracker, "10.0.1.1", 1, "web", 1);
    upsert(&mut tracker, "fd00::1", 1, "web", 1);
    upsert(&mut tracker, "10.0.1.1", 2, "web", 1);
    assert_eq!(changes(&mut tracker), ["+web", "+web", "+web"]);
    delete(&mut tracker, "10.0.1.1", 2);
    assert_eq!(changes(&mut tracker), Vec::<String>::new());
    // It moves to another node: the new address comes first.
    upsert(&mut tracker, "10.0.2.2", 1, "web", 3);
    notify(&mut tracker, 10, r#"{"cidr":"fd00::1/128","id":1}"#, 3);
    assert_eq!(changes(&mut tracker), ["+web"]);
    // Another pod takes its address.
    upsert(&mut tracker, "10.0.2.2", 1, "api", 4);
    assert_eq!(changes(&mut tracker), ["-web", "+api"]);
    delete(&mut tracker, "10.0.2.2", 5);
    delete(&mut tracker, "10.0.2.2", 6);
    assert_eq!(changes(&mut tracker), ["-api"]);
    let local = r#"{"id":7,"namespace":"shop","pod-name":"local"}"#;
    notify(&mut tracker, 7, local, 7);
    notify(&mut tracker, 8, local, 8);
    assert_eq!(changes(&mut tracker), ["+local", "-local"]);
}

#[test]
fn pods_that_a_new_list_does_not_have_are_gone() {
    let mut tracker = Tracker::default();
    for (address, name) in [("10.0.1.1", "a"), ("10.0.1.2", "b"), ("10.0.1.3", "c")] {
        upsert(&mut tracker, address, 1, name, 1);
    }
    // After the list was asked for.
    upsert(&mut tracker, "10.0.1.4", 1, "d", 20);
    changes(&mut tracker);
    table(&mut tracker, Table::Prefixes, 10, |filled| {
        filled.set_prefix(ip("10.0.9.1"), 32, 1, Some(pod("a")));
        filled.set_prefix(ip("10.0.1.2"), 32, 1, Some(pod("e")));
    });
    let mut gone = changes(&mut tracker);
    let there = gone.split_off(3);
    gone.sort();
    assert_eq!(gone, ["-b", "-c", "-d"]);
    // The older list did not have it; the notification is newer.
    assert_eq!(there, ["+d"]);
    assert_eq!(who(&tracker, "10.0.1.4").2, "d");
}

/// A DNS answer that endpoint 7 got, or a flow that it sends to an address.
fn answer(name: &str, addresses: &[&str], time_ns: u64) -> Flow {
    let dns = Dns {
        query: name.into(),
        ips: addresses.iter().map(|text| Box::from(*text)).collect(),
        ttl: 60,
        qtypes: vec![1],
        ..Dns::default()
    };
    Flow {
        time_ns,
        verdict: Verdict::FORWARDED,
        ip: Some(Ip::default()),
        l4: Some(L4::Udp {
            source_port: 53,
            destination_port: 40_000,
        }),
        destination: Endpoint {
            id: 7,
            ..Endpoint::default()
        },
        l7: Some(Box::new(Layer7 {
            kind: L7FlowType::RESPONSE,
            record: L7Record::Dns(dns),
            ..Layer7::default()
        })),
        ..Flow::default()
    }
}

fn names(tracker: &Tracker, id: u32, address: &str) -> Vec<String> {
    let names = tracker.directory().names(id, Some(ip(address)));
    let names = names.iter().flat_map(|names| names.iter());
    names.map(ToString::to_string).collect()
}

#[test]
fn a_dns_answer_names_the_flows_after_it() {
    let mut tracker = Tracker::default();
    let both = ["192.0.2.1", "2001:db8::1", "not an address"];
    tracker.observed(&answer("WWW.example.com.", &both, SECOND));
    tracker.observed(&answer("alias.example.com.", &both[..1], 2 * SECOND));
    assert_eq!(
        names(&tracker, 7, "192.0.2.1"),
        ["alias.example.com", "www.example.com"]
    );
    assert_eq!(names(&tracker, 7, "2001:db8::1"), ["www.example.com"]);
    // It was not this endpoint that asked.
    assert_eq!(names(&tracker, 8, "192.0.2.1"), Vec::<String>::new());
}

#[test]
fn only_an_answer_that_came_through_names_anything() {
    let mut tracker = Tracker::default();
    let good = answer("a.", &["192.0.2.1"], SECOND);
    let with = |change: &dyn Fn(&mut Layer7, &mut Dns)| {
        let mut flow = good.clone();
        let l7 = flow.l7.as_deref_mut().unwrap();
        let L7Record::Dns(mut dns) = std::mem::take(&mut l7.record) else {
            panic!("a DNS answer");
        };
        change(l7, &mut dns);
        l7.record = L7Record::Dns(dns);
        flow
    };
    let denied = Flow {
        verdict: Verdict::DROPPED,
        ..good.clone()
    };
    let unknown = Flow {
        destination: Endpoint::default(),
        ..good.clone()
    };
    for flow in [
        denied,
        unknown,
        with(&|_, dns| dns.rcode = 3),
        with(&|_, dns| dns.query = ".".into()),
        with(&|l7, _| l7.kind = L7FlowType::REQUEST),
    ] {
        tracker.observed(&flow);
        assert_eq!(names(&tracker, 7, "192.0.2.1"), Vec::<String>::new());
    }
    tracker.observed(&good);
    assert_eq!(names(&tracker, 7, "192.0.2.1"), ["a"]);
}

#[test]
fn of_names_that_are_older_than_a_list_the_list_decides() {
    let mut tracker = Tracker::default();
    tracker.observed(&answer("old.", &["192.0.2.1"], SECOND));
    tracker.observed(&answer("new.", &["192.0.2.1"], 10 * SECOND));
    // Asked for before the newer answer.
    table(&mut tracker, Table::Names, 9 * SECOND, |filled| {
        filled.add_name(7, ip("192.0.2.1"), "listed");
    });
    assert_eq!(names(&tracker, 7, "192.0.2.1"), ["listed", "new"]);
    // The agent's own table is a little behind its log.
    table(&mut tracker, Table::Names, 10 * SECOND + 1, |_| {});
    assert_eq!(names(&tracker, 7, "192.0.2.1"), ["new"]);
    table(&mut tracker, Table::Names, 20 * SECOND, |_| {});
    assert_eq!(names(&tracker, 7, "192.0.2.1"), Vec::<String>::new());
    assert!(tracker.names.is_empty());
}

#[test]
fn a_name_is_forgotten_when_its_time_is_over() {
    let mut tracker = Tracker::default();
    table(&mut tracker, Table::Names, 0, |filled| {
        filled.add_name(7, ip("192.0.2.1"), "listed");
    });
    for name in ["listed.", "ours."] {
        tracker.observed(&answer(name, &["192.0.2.1"], SECOND));
    }
    // Asked again: from now on it is known for longer.
    tracker.observed(&answer("again.", &["192.0.2.2"], SECOND));
    tracker.observed(&answer("again.", &["192.0.2.2"], 40 * SECOND));
    tracker.advance(60 * SECOND);
    assert_eq!(names(&tracker, 7, "192.0.2.1"), ["listed", "ours"]);
    tracker.advance(75 * SECOND);
    // What the list has stays until the next one.
    assert_eq!(names(&tracker, 7, "192.0.2.1"), ["listed"]);
    assert_eq!(names(&tracker, 7, "192.0.2.2"), ["again"]);
    tracker.advance(200 * SECOND);
    assert_eq!(names(&tracker, 7, "192.0.2.2"), Vec::<String>::new());
    assert!(tracker.names.is_empty());
}

#[test]
fn names_of_our_own_are_bounded() {
    let mut tracker = Tracker::default();
    for n in 0..NAMES_MAX + 10 {
        let (name, last) = (format!("{n}."), n % 256);
        let address = format!("192.0.{}.{last}", n / 256);
        tracker.observed(&answer(&name, &["198.51.100.1", &address], SECOND));
    }
    assert_eq!(tracker.names.len(), NAMES_MAX);
    let of_one = names(&tracker, 7, "198.51.100.1").len();
    assert_eq!(of_one, crate::enrich::cilium::NAMES_MAX);
    tracker.advance(1000 * SECOND);
    assert!(tracker.names.is_empty());
    assert_eq!(names(&tracker, 7, "198.51.100.1"), Vec::<String>::new());
}
