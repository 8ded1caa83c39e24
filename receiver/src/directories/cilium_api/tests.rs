//! Against an agent inside the test that answers with the fixtures.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use super::*;
use netflume_core::decode::cilium::agent::{Notification, agent_event};
use netflume_core::model::flow::Endpoint;

const FIXTURES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/fixtures/cilium/1.19.4/api"
);
const SECOND: u64 = 1_000_000_000;
const WAIT: Duration = Duration::from_secs(10);

fn asking(socket: PathBuf, raw: bool) -> Asking {
    Asking {
        socket,
        wait: WAIT,
        raw,
    }
}

/// What is answered to a path; none is 404.
type Answering = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Answers every question; the paths come out of the other end.
fn agent(
    folder: &Path,
    answers: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> (PathBuf, Receiver<String>) {
    let socket = folder.join("cilium.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (asked, questions) = channel();
    let answers: Answering = Arc::new(answers);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let (answers, asked) = (Arc::clone(&answers), asked.clone());
            std::thread::spawn(move || converse(stream, &answers, &asked));
        }
    });
    (socket, questions)
}

fn converse(mut stream: UnixStream, answers: &Answering, asked: &Sender<String>) -> Option<()> {
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
        // Not every test looks at the questions.
        asked.send(path.to_owned()).ok();
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).ok()?;
    }
}

/// An agent that answers with the fixtures as soon as what comes with it is dropped.
fn slow_agent(folder: &Path) -> (PathBuf, Sender<()>) {
    let (open, gate) = channel();
    let gate = Mutex::new(gate);
    let (socket, _) = agent(folder, move |path| {
        let _dropped = gate.lock().unwrap().recv();
        fixtures(path)
    });
    (socket, open)
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
    /// Waits for the next answers, and takes them, however new they are.
    fn take_next(&mut self) -> Option<AgentInfo> {
        self.early = Some(self.next_answers());
        self.advance(u64::MAX, |_| {})
    }

    fn next_answers(&mut self) -> Answers {
        self.fetcher.as_mut().unwrap().next_answers().unwrap()
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

/// So many paths, sorted: lists are asked for at the same time.
fn asked(questions: &Receiver<String>, count: usize) -> Vec<String> {
    let mut paths: Vec<_> = (0..count).map(|_| questions.recv().unwrap()).collect();
    paths.sort();
    paths
}

const EVERYTHING: [&str; 7] = [
    "cgroup-dump-metadata",
    "endpoint",
    "fqdn/cache",
    "healthz",
    "identity",
    "ip",
    "service",
];

/// What the fixtures' lists have for some addresses.
#[track_caller]
fn knows_the_fixtures(names: &Names) {
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
}

#[test]
fn everything_is_asked_at_the_start_and_what_is_new_when_it_is_met() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, questions) = agent(folder.path(), fixtures);
    let mut names = Names::default();
    names.ask_agent(asking(socket, false)).unwrap();
    let info = names.take_next().unwrap();
    assert_eq!(info.version, Some((1, 19)));
    assert_eq!(info.node.as_deref(), Some("default/node-a"));
    assert_eq!(asked(&questions, 7), EVERYTHING);
    knows_the_fixtures(&names);

    names.notified(&notification(7, r#"{"id":7}"#, SECOND));
    names.take_next();
    assert_eq!(asked(&questions, 1), ["endpoint/7"]);
    assert_eq!(
        names.directory().resolve(address("10.0.0.7"), 0).pod_name(),
        "new"
    );

    // The same number is not asked for with each flow; one that is known is not asked for at all.
    for number in [4711, 4711, 5555, 0] {
        names.seen(&flow(number, SECOND));
    }
    names.take_next();
    assert_eq!(
        &*names.directory().labels(4711).unwrap().list,
        ["k8s:app=late".into()]
    );
    assert_eq!(asked(&questions, 1), ["identity/4711"]);
    names.seen(&flow(9999, SECOND));
    names.seen(&flow(9999, SECOND + ASK_AGAIN_NS - 1));
    names.unknown_cgroup(SECOND);
    names.unknown_cgroup(SECOND);
    names.take_next();
    assert_eq!(
        asked(&questions, 2),
        ["cgroup-dump-metadata", "identity/9999"]
    );
    names.seen(&flow(9999, SECOND + ASK_AGAIN_NS));
    assert_eq!(asked(&questions, 1), ["identity/9999"]);

    // A new connection may have missed anything; one that is older than the lists has not.
    names.connected(SECOND);
    names.unknown_cgroup(100 * SECOND);
    assert_eq!(asked(&questions, 1), ["cgroup-dump-metadata"]);
    names.connected(u64::MAX);
    assert_eq!(asked(&questions, 7), EVERYTHING);
}

#[test]
fn answers_that_make_no_sense_leave_the_rest_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, _questions) = agent(folder.path(), broken);
    let mut names = Names::default();
    let known = Answer {
        asked_ns: 1,
        path: "identity/1001",
        body: br#"{"id":1001,"labels":["k8s:app=web"]}"#,
    };
    names.recorded(&known.to_bytes()).unwrap();
    names.ask_agent(asking(socket, false)).unwrap();
    assert_eq!(names.take_next(), None);
    let api = names.directory().resolve(address("10.0.1.5"), 0);
    assert_eq!(
        (api.identity, api.pod_name(), api.labels().len()),
        (1004, "api-5f6d-7k7k7", 0)
    );
    assert_eq!(
        &*names.directory().labels(1001).unwrap().list,
        ["k8s:app=web".into()]
    );
    // Refusals are answers: nothing more will come.
    assert!(!names.must_wait(SECOND));
}

#[test]
fn an_agent_that_comes_later_is_asked_then() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = Names::default();
    names
        .ask_agent(asking(folder.path().join("cilium.sock"), false))
        .unwrap();
    let (_, questions) = agent(folder.path(), fixtures);
    while names.directory().endpoint(77).is_none() {
        names.take_next();
    }
    assert_eq!(asked(&questions, 7), EVERYTHING);
}

#[test]
fn events_wait_for_the_first_lists_of_a_slow_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, open) = slow_agent(folder.path());
    let mut names = Names::default();
    names.ask_agent(asking(socket, false)).unwrap();
    assert!(names.must_wait(SECOND) && names.must_wait(3 * SECOND));
    names.advance(3 * SECOND, |_| {});
    assert!(names.must_wait(3 * SECOND));
    drop(open);
    names.early = Some(names.next_answers());
    // They are newer than the events, and better than nothing.
    names.advance(4 * SECOND, |_| {});
    assert!(!names.must_wait(4 * SECOND));
    knows_the_fixtures(&names);
}

#[test]
fn events_do_not_wait_for_ever_nor_for_a_socket_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, _open) = slow_agent(folder.path());
    let mut names = Names::default();
    names.ask_agent(asking(socket, false)).unwrap();
    assert!(names.must_wait(SECOND));
    assert!(names.must_wait(SECOND + WAIT.as_nanos() as u64 - 1));
    assert!(!names.must_wait(SECOND + WAIT.as_nanos() as u64));
    assert!(!names.must_wait(SECOND));

    // Nor when they are not to wait, or no agent is asked.
    let (folder, mut names) = (tempfile::tempdir().unwrap(), Names::default());
    assert!(!names.must_wait(SECOND));
    let (socket, _open) = slow_agent(folder.path());
    let at_once = Asking {
        wait: Duration::ZERO,
        ..asking(socket, false)
    };
    names.ask_agent(at_once).unwrap();
    assert!(!names.must_wait(SECOND));

    let mut names = Names::default();
    names
        .ask_agent(asking(folder.path().join("absent"), false))
        .unwrap();
    names.take_next();
    assert!(!names.must_wait(SECOND));
    // The monitor socket is connected: the agent may be there now.
    let now_ns = crate::platform::clock::now().unix_ns;
    names.connecting(now_ns);
    assert!(names.must_wait(now_ns));
    while names.must_wait(now_ns) {
        names.take_next();
    }
}

#[test]
fn that_the_socket_was_not_there_before_the_agent_counts_no_more_when_the_agent_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = Names::default();
    names
        .ask_agent(asking(folder.path().join("absent"), false))
        .unwrap();
    let before = names.next_answers();
    let now_ns = before.lists_ns + 1;
    names.early = Some(before);
    names.connecting(now_ns);
    names.advance(now_ns, |_| {});
    assert!(names.must_wait(now_ns));
}

#[test]
fn an_answer_is_taken_when_the_events_are_as_new_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, _questions) = agent(folder.path(), fixtures);
    let mut names = Names::default();
    names.ask_agent(asking(socket, false)).unwrap();
    names.take_next();
    names.notified(&notification(7, r#"{"id":7}"#, SECOND));
    let answers = names.next_answers();
    let asked_ns = answers.changes[0].asked_ns;
    names.early = Some(answers);
    let id = |names: &Names| names.directory().resolve(address("10.0.0.7"), 0).id;
    names.advance(asked_ns - 1, |_| {});
    assert_eq!(id(&names), 0);
    names.advance(asked_ns, |_| {});
    assert_eq!(id(&names), 7);
    // The clock is set back: an answer is not kept until it is as late again.
    names.notified(&notification(7, r#"{"id":7}"#, SECOND));
    names.early = Some(names.next_answers());
    names.advance(SECOND, |_| {});
    assert!(names.early.is_none());
}

#[test]
fn a_recording_of_the_answers_gives_the_same_names() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, _questions) = agent(folder.path(), fixtures);
    let mut names = Names::default();
    names.ask_agent(asking(socket, true)).unwrap();
    let mut recording = Vec::new();
    names.early = Some(names.next_answers());
    names.advance(0, |bytes| recording.push(bytes));
    names.notified(&notification(7, r#"{"id":7}"#, SECOND));
    names.early = Some(names.next_answers());
    names.advance(u64::MAX, |bytes| recording.push(bytes));

    let mut again = Names::default();
    let agents: Vec<_> = recording
        .iter()
        .filter_map(|bytes| again.recorded(bytes).unwrap())
        .collect();
    assert_eq!(agents.len(), 1);
    assert_eq!(agents[0].node.as_deref(), Some("default/node-a"));
    knows_the_fixtures(&again);
    assert_eq!(
        again.directory().resolve(address("10.0.0.7"), 0).pod_name(),
        "new"
    );
    assert!(again.recorded(&[0; 4]).is_err());
}
