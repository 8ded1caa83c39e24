//! Batches of the fixtures, as they wait for names and as they get them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::directories::cilium_api::Asking;
use crate::platform::clock;

const FIXTURES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/fixtures/cilium/1.19.4"
);

/// An agent that answers with the fixtures as soon as what comes with it is dropped.
fn slow_agent(folder: &Path) -> (PathBuf, Sender<()>) {
    let socket = folder.join("cilium.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (open, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || converse(stream, &gate));
        }
    });
    (socket, open)
}

fn converse(mut stream: UnixStream, gate: &Mutex<Receiver<()>>) -> Option<()> {
    let mut question = Vec::new();
    loop {
        while !question.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            question.extend(byte);
        }
        let text = String::from_utf8(std::mem::take(&mut question)).ok()?;
        let path = text.strip_prefix("GET /v1/")?.split(' ').next()?;
        let _dropped = gate.lock().unwrap().recv();
        let file = format!("{FIXTURES}/api/{}.json", path.replace('/', "-"));
        let body = std::fs::read_to_string(file).unwrap_or_default();
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).ok()?;
    }
}

/// What came, in order: the pod of each flow's source, `api` for an answer, `batch` for a batch.
#[derive(Default)]
struct Seen(Vec<String>);

impl Seen {
    fn named(&self) -> usize {
        let words = self.0.iter();
        words.filter(|word| word.starts_with("web-")).count()
    }

    fn flows(&self) -> usize {
        let words = self.0.iter();
        words
            .filter(|word| !["api", "batch"].contains(&word.as_str()))
            .count()
    }
}

impl Sink for Seen {
    fn batch(&mut self, _: &Batch) -> Result<(), EngineError> {
        self.0.push("batch".to_owned());
        Ok(())
    }

    fn event(&mut self, event: CiliumEvent) -> Result<(), EngineError> {
        if let CiliumEvent::Flow(flow) = event {
            self.0.push(flow.source.pod_name().to_owned());
        }
        Ok(())
    }

    fn answer(&mut self, answer: Batch) -> Result<(), EngineError> {
        assert_eq!(answer.kind, BatchKind::CILIUM_API);
        self.0.push("api".to_owned());
        Ok(())
    }

    fn refused(&mut self, _: Reason) {}
    fn pod(&mut self, _: &PodChange, _: u64) {}
    fn agent(&mut self, _: AgentInfo) {}
}

fn batch(now: Now) -> Batch {
    Batch {
        kind: BatchKind::CILIUM_MONITOR,
        unix_ns: now.unix_ns,
        boot_ns: now.boot_ns,
        bytes: std::fs::read(format!("{FIXTURES}/trace.gob")).unwrap(),
    }
}

fn events(socket: PathBuf) -> Events {
    let mut names = Names::default();
    let asking = Asking {
        socket,
        wait: Duration::from_secs(3600),
        raw: true,
    };
    names.ask_agent(asking).unwrap();
    Events::new(flow::Options::default(), names)
}

#[test]
fn the_first_events_wait_for_the_names_of_a_slow_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, open) = slow_agent(folder.path());
    let (mut events, mut seen) = (events(socket), Seen::default());
    for _ in 0..3 {
        events.feed(&batch(clock::now()), &mut seen).unwrap();
    }
    events.tick(clock::now(), &mut seen).unwrap();
    assert_eq!(seen.0, Vec::<String>::new());
    drop(open);
    let end = Instant::now() + Duration::from_secs(120);
    while seen.flows() == 0 {
        assert!(Instant::now() < end, "the agent's answer does not come");
        events.tick(clock::now(), &mut seen).unwrap();
    }
    // In the order in which they came, behind the answers.
    assert_eq!(seen.0[..8], ["api"; 8]);
    assert_eq!(seen.0[8], "batch");
    let batches = seen.0.iter().filter(|word| *word == "batch").count();
    assert_eq!(batches, 3);
    assert!(seen.named() > 30, "{} named flows", seen.named());
    let (flows, named) = (seen.flows() / 3, seen.named() / 3);
    events.feed(&batch(clock::now()), &mut seen).unwrap();
    assert_eq!((seen.flows(), seen.named()), (flows * 4, named * 4));
}

#[test]
fn what_waits_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, _open) = slow_agent(folder.path());
    let (mut events, mut seen) = (events(socket), Seen::default());
    let batch = batch(clock::now());
    let room = HELD_BYTES_MAX / batch.bytes.len();
    for _ in 0..room {
        events.feed(&batch, &mut seen).unwrap();
    }
    assert!(seen.0.is_empty());
    events.feed(&batch, &mut seen).unwrap();
    assert!(seen.flows() > room && seen.named() == 0);
    assert_eq!((events.held.len(), events.held_bytes), (0, 0));
    // A new connection begins with type definitions: the agent may be about to answer.
    let before = seen.flows();
    events.feed(&batch, &mut seen).unwrap();
    assert_eq!((seen.flows(), events.held.len()), (before, 1));
}

#[test]
fn what_waits_at_the_end_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, _open) = slow_agent(folder.path());
    let (mut events, mut seen) = (events(socket), Seen::default());
    events.feed(&batch(clock::now()), &mut seen).unwrap();
    assert_eq!(seen.flows(), 0);
    events.finish(&mut seen).unwrap();
    assert!(seen.flows() > 0);
}
