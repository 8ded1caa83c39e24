//! Against an agent inside the test that answers with the fixtures.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use netflume_core::decode::cilium::agent::{Notification, agent_event};

const FIXTURES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/fixtures/cilium/1.19.4/api"
);
const SECOND: u64 = 1_000_000_000;

/// Answers every question; `asked` gets the paths. What `answers` does not know is 404.
fn agent(folder: &Path, answers: fn(&str) -> Option<String>) -> (PathBuf, Receiver<String>) {
    let socket = folder.join("cilium.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (asked, questions) = channel();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let asked = asked.clone();
            std::thread::spawn(move || converse(stream, answers, &asked));
        }
    });
    (socket, questions)
}

fn converse(
    mut stream: UnixStream,
    answers: fn(&str) -> Option<String>,
    asked: &Sender<String>,
) -> Option<()> {
    let mut text = Vec::new();
    loop {
        while !text.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            text.extend(byte);
        }
        let question = String::from_utf8(std::mem::take(&mut text)).ok()?;
        let path = question.strip_prefix("GET /v1/")?.split(' ').next()?;
        let (status, body) = match answers(path) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", String::new()),
        };
        asked.send(path.to_owned()).ok()?;
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).ok()?;
    }
}

/// What the fixtures know; of endpoints also a new one, of identities a new one.
fn fixtures(path: &str) -> Option<String> {
    match path {
        "endpoint/7" => Some(
            r#"{"id":7,"status":{"identity":{"id":5555,"labels":["k8s:app=new"]},
            "external-identifiers":{"k8s-pod-name":"new","k8s-namespace":"shop"},
            "networking":{"addressing":[{"ipv4":"10.0.0.7"}]}}}"#
                .to_owned(),
        ),
        "identity/4711" => Some(r#"{"id":4711,"labels":["k8s:app=late"]}"#.to_owned()),
        path => std::fs::read_to_string(format!("{FIXTURES}/{}.json", path.replace('/', "-"))).ok(),
    }
}

/// Only the ip cache makes sense.
fn broken(path: &str) -> Option<String> {
    match path {
        "ip" => fixtures(path),
        "endpoint" => Some("[{\"id\":".to_owned()),
        "identity" => Some("{\"code\":500}".to_owned()),
        "service" | "fqdn/cache" => Some("null".to_owned()),
        _ => None,
    }
}

impl Names {
    /// Waits for the next answer, and takes it.
    fn take_next(&mut self, unix_ns: u64) -> Option<AgentInfo> {
        let change = self.fetcher.as_mut().unwrap().next_change().unwrap();
        self.apply(change, unix_ns)
    }
}

fn address(text: &str) -> Option<std::net::IpAddr> {
    text.parse().ok()
}

fn notification(kind: u64, text: &str, time_ns: u64) -> AgentEvent {
    let text = text.into();
    agent_event(&Notification { kind, text }, time_ns)
}

fn flow(identity: u32, time_ns: u64) -> Flow {
    Flow {
        time_ns,
        source: Endpoint {
            identity,
            ..Endpoint::default()
        },
        ..Flow::default()
    }
}

fn asked(questions: &Receiver<String>, count: usize) -> Vec<String> {
    (0..count).map(|_| questions.recv().unwrap()).collect()
}

const EVERYTHING: [&str; 7] = [
    "healthz",
    "endpoint",
    "identity",
    "ip",
    "service",
    "cgroup-dump-metadata",
    "fqdn/cache",
];

#[test]
fn everything_is_asked_at_the_start_and_what_is_new_when_it_is_met() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, questions) = agent(folder.path(), fixtures);
    let mut names = Names::default();
    names.ask_at(socket).unwrap();
    let info = names.take_next(0).unwrap();
    assert_eq!(info.version, Some((1, 19)));
    assert_eq!(info.node.as_deref(), Some("default/node-a"));
    assert_eq!(names.take_next(0), None);
    assert_eq!(asked(&questions, 7), EVERYTHING);
    let web = names.directory().resolve(address("fd00::1"), 0);
    assert_eq!(
        (web.id, web.namespace(), web.pod_name()),
        (77, "shop", "web-7d4b9c6f5-x2x1z")
    );
    let api = names.directory().resolve(address("10.0.1.5"), 0);
    assert_eq!((api.identity, api.pod_name()), (1004, "api-5f6d-7k7k7"));
    let service = names
        .directory()
        .service(address("10.96.0.10"), 53)
        .unwrap();
    assert_eq!(
        (&*service.name, &*service.namespace),
        ("kube-dns", "kube-system")
    );
    let domains = names
        .directory()
        .names(77, address("198.51.100.34"))
        .unwrap();
    assert_eq!(&*domains, ["example.com".into(), "www.example.com".into()]);
    assert_eq!(
        names.directory().cgroup_address(4711, false),
        address("10.0.0.1")
    );
    assert_eq!(names.directory().interface(15).as_deref(), Some("lxc77"));

    names.notified(&notification(7, r#"{"id":7}"#, SECOND));
    names.take_next(SECOND);
    assert_eq!(asked(&questions, 1), ["endpoint/7"]);
    assert_eq!(
        names.directory().resolve(address("10.0.0.7"), 0).pod_name(),
        "new"
    );

    // The same number is not asked for with each flow; one that is known is not asked for at all.
    for number in [4711, 4711, 5555, 0] {
        names.seen(&flow(number, SECOND));
    }
    names.take_next(SECOND);
    assert_eq!(
        &*names.directory().labels(4711).unwrap().list,
        ["k8s:app=late".into()]
    );
    names.seen(&flow(9999, SECOND));
    names.seen(&flow(9999, SECOND + ASK_AGAIN_NS - 1));
    names.unknown_cgroup(SECOND);
    names.unknown_cgroup(SECOND);
    names.take_next(SECOND);
    let mut met = asked(&questions, 3);
    met[1..].sort();
    assert_eq!(
        met,
        ["identity/4711", "cgroup-dump-metadata", "identity/9999"]
    );
    names.seen(&flow(9999, SECOND + ASK_AGAIN_NS));
    assert_eq!(asked(&questions, 1), ["identity/9999"]);

    // A new connection may have missed anything.
    names.connected();
    assert_eq!(asked(&questions, 7), EVERYTHING);
}

#[test]
fn answers_that_make_no_sense_leave_the_rest_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, _questions) = agent(folder.path(), broken);
    let mut names = Names::default();
    names.directory.set_identity(1001, ["k8s:app=web"]);
    names.ask_at(socket).unwrap();
    assert_eq!(names.take_next(0), None);
    let api = names.directory().resolve(address("10.0.1.5"), 0);
    assert_eq!(
        (api.identity, api.pod_name(), api.labels().len()),
        (1004, "api-5f6d-7k7k7", 0)
    );
    assert_eq!(
        &*names.directory().labels(1001).unwrap().list,
        ["k8s:app=web".into()]
    );
}

#[test]
fn an_agent_that_comes_later_is_asked_then() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = Names::default();
    names.ask_at(folder.path().join("cilium.sock")).unwrap();
    let (_, questions) = agent(folder.path(), fixtures);
    names.take_next(0);
    names.take_next(0);
    assert_eq!(asked(&questions, 7), EVERYTHING);
    assert!(names.directory().endpoint(77).is_some());
}

fn tables(asked_ns: u64) -> Change {
    let mut filled = Box::new(Directory::default());
    filled.set_prefix(address("10.0.9.1").unwrap(), 32, 1, None);
    Change::Tables {
        tables: vec![Table::Endpoints, Table::Prefixes],
        filled,
        asked_ns,
    }
}

#[test]
fn what_was_notified_while_a_list_was_under_way_is_newer_than_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = Names::default();
    names.ask_at(folder.path().join("absent.sock")).unwrap();
    let upsert = |id: u32, time_ns| {
        let text = format!(r#"{{"cidr":"10.0.9.{id}/32","id":{id}}}"#);
        notification(9, &text, time_ns)
    };
    names.notified(&upsert(2, 5));
    names.notified(&upsert(3, 10));
    names.notified(&notification(10, r#"{"cidr":"10.0.9.1/32","id":1}"#, 11));
    names.apply(tables(10), 12);
    let known = |names: &Names, text| names.directory().identity_at(address(text).unwrap());
    assert_eq!(known(&names, "10.0.9.1"), None);
    assert_eq!(known(&names, "10.0.9.2"), None);
    assert_eq!(known(&names, "10.0.9.3"), Some(3));
}

#[test]
fn an_endpoint_that_is_gone_stays_known_for_a_minute() {
    let mut names = Names::default();
    for (id, text) in [(7, "10.0.0.7"), (8, "10.0.0.8")] {
        names
            .directory
            .set_endpoint(netflume_core::enrich::cilium::LocalEndpoint {
                id,
                addresses: address(text).into_iter().collect(),
                ..Default::default()
            });
        names.notified(&notification(8, &format!(r#"{{"id":{id}}}"#), SECOND));
    }
    names.apply(tables(2), 3);
    assert_eq!(names.directory().resolve(address("10.0.0.7"), 0).id, 7);
    names.advance(GRACE_NS);
    assert!(names.directory().endpoint(7).is_some());
    // 8 is in use again.
    names.notified(&notification(7, r#"{"id":8}"#, GRACE_NS));
    names.advance(GRACE_NS + SECOND);
    assert!(names.directory().endpoint(7).is_none());
    assert!(names.directory().endpoint(8).is_some());
    assert_eq!(names.directory().resolve(address("10.0.0.7"), 0).id, 0);
}

#[test]
fn our_interfaces_are_the_nodes_if_one_leads_to_an_endpoint() {
    let mut directory = Directory::default();
    directory.set_interface(15, "lxc77".into());
    let link = |index: u32, name: &str| (index, name.to_owned());
    fetch::own_links(&mut directory, &[link(2, "eth0"), link(15, "lxc9")]);
    assert_eq!(directory.interface(2), None);
    fetch::own_links(&mut directory, &[link(2, "eth0"), link(15, "lxc77")]);
    assert_eq!(directory.interface(2).as_deref(), Some("eth0"));
}
