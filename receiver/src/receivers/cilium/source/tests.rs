//! A socket that trickles, ends in a message, sends garbage, or is not read from.

use std::io::Write;
use std::os::unix::net::UnixListener;

use super::*;
use netflume_core::decode::cilium::Payload;

const STREAM: &[u8] = include_bytes!("../../../../../tests/fixtures/cilium/1.19.4/trace.gob");

fn payloads(batches: &Batches, monitor: &mut Monitor, count: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while found.len() < count {
        let batch = batches
            .recv_timeout(Duration::from_secs(20))
            .expect("a batch");
        let mut rest = &batch.bytes[..];
        while !rest.is_empty() {
            let (payload, after) = monitor.next(rest).unwrap();
            if let Some(Payload::Sample { data, .. }) = payload {
                found.push(data.to_vec());
            }
            rest = after;
        }
    }
    found
}

/// A source whose agent is the listener.
struct Started {
    listener: UnixListener,
    ledger: Arc<Ledger>,
    source: CiliumSource,
    batches: Batches,
    /// Of the socket.
    _folder: tempfile::TempDir,
}

impl Started {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("monitor1_2.sock");
        let ledger = Arc::new(Ledger::default());
        let listener = UnixListener::bind(&path).unwrap();
        let (source, batches) =
            CiliumSource::start(path, Arc::clone(&ledger), Arc::default()).unwrap();
        Self {
            listener,
            ledger,
            source,
            batches,
            _folder: folder,
        }
    }

    fn agent(&self) -> UnixStream {
        self.listener.accept().unwrap().0
    }
}

fn expected() -> Vec<Vec<u8>> {
    let (mut monitor, mut rest, mut all) = (Monitor::default(), STREAM, Vec::new());
    while !rest.is_empty() {
        let (payload, after) = monitor.next(rest).unwrap();
        if let Some(Payload::Sample { data, .. }) = payload {
            all.push(data.to_vec());
        }
        rest = after;
    }
    all
}

#[test]
fn an_agent_that_trickles_stops_in_a_message_and_comes_back_is_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor1_2.sock");
    let (ledger, health) = (Arc::new(Ledger::default()), Arc::new(Health::default()));
    let (source, batches) =
        CiliumSource::start(path.clone(), Arc::clone(&ledger), Arc::clone(&health)).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let expected = expected();
    let mut monitor = Monitor::default();

    // Cut off in the middle of the last message.
    let (mut agent, _) = listener.accept().unwrap();
    for piece in STREAM[..STREAM.len() - 3].chunks(1000) {
        agent.write_all(piece).unwrap();
    }
    drop(agent);
    let found = payloads(&batches, &mut monitor, expected.len() - 1);
    assert_eq!(found, expected[..expected.len() - 1]);

    // The agent is back: definitions come anew.
    let (mut agent, _) = listener.accept().unwrap();
    agent.write_all(STREAM).unwrap();
    assert_eq!(payloads(&batches, &mut monitor, expected.len()), expected);
    assert_eq!(health.sources().get(CILIUM), Some(&SourceState::Running));

    // Garbage ends a connection, not the source; what came before it, even in the same read, is taken.
    agent.write_all(&[STREAM, &[0xf8; 64]].concat()).unwrap();
    assert_eq!(payloads(&batches, &mut monitor, expected.len()), expected);
    let (mut agent, _) = listener.accept().unwrap();
    agent.write_all(STREAM).unwrap();
    assert_eq!(
        payloads(&batches, &mut Monitor::default(), expected.len()),
        expected
    );
    drop(source);
    let entry = ledger.entry(Stage::Source);
    assert_eq!(entry.held(), 0, "{entry:?}");
    assert_eq!(entry.passed, 4 * expected.len() as u64 - 1);
    assert_eq!(entry.dropped, [(Reason::CutOff, 1), (Reason::Malformed, 1)]);
    assert_eq!(entry.bytes, 4 * STREAM.len() as u64 - 3 + 64);
}

/// The messages of the stream, one by one.
fn messages() -> Vec<Vec<u8>> {
    let mut rest = STREAM;
    let mut all = Vec::new();
    while let Ok(Some((_, after))) = gob::frame(rest) {
        all.push(rest[..rest.len() - after.len()].to_vec());
        rest = after;
    }
    all
}

#[test]
fn a_message_that_makes_no_sense_takes_no_other_with_it() {
    let started = Started::new();
    let mut agent = started.agent();
    let Started {
        ledger,
        source,
        batches,
        ..
    } = started;
    // Instead of its end, a field that it does not have.
    let mut messages = messages();
    let expected = expected();
    let damaged = messages.len() - expected.len() / 2;
    *messages[damaged].last_mut().unwrap() = 0x7f;
    agent.write_all(&messages.concat()).unwrap();
    let (mut monitor, mut taken) = (Monitor::default(), 0);
    while taken < expected.len() as u64 {
        let batch = batches.recv_timeout(Duration::from_secs(20)).unwrap();
        taken += count(&mut monitor, &batch.bytes);
    }
    drop((agent, source));
    let entry = ledger.entry(Stage::Source);
    assert_eq!(
        (entry.passed, entry.dropped),
        (expected.len() as u64, vec![])
    );
}

#[test]
fn what_was_read_behind_a_stream_that_broke_is_counted() {
    let started = Started::new();
    let values = STREAM.get(definitions()..).unwrap();
    let mut agent = started.agent();
    // Values of a type that was never defined, the last one not complete, in one read.
    let ten = &messages()[messages().len() - expected().len()..][..10];
    let sent = [&ten.concat()[..], &values[..3]].concat();
    agent.write_all(&sent).unwrap();
    // It comes back when it is done with this connection.
    let _again = started.agent();
    let entry = started.ledger.entry(Stage::Source);
    assert_eq!(entry.bytes, sent.len() as u64);
    assert_eq!(
        (entry.received, entry.dropped),
        (11, vec![(Reason::Malformed, 11)])
    );
}

#[test]
fn a_message_that_frames_well_but_is_none_of_gob_ends_the_connection() {
    let started = Started::new();
    for _ in 0..2 {
        started.agent().write_all(&[0x03; 400]).unwrap();
    }
    let mut agent = started.agent();
    agent.write_all(STREAM).unwrap();
    let expected = expected();
    assert_eq!(
        payloads(&started.batches, &mut Monitor::default(), expected.len()),
        expected
    );
}

#[test]
fn what_nobody_takes_is_dropped_and_counted_within_the_bound() {
    let started = Started::new();
    let mut agent = started.agent();
    let Started {
        ledger,
        source,
        batches,
        ..
    } = started;
    let values = STREAM.get(definitions()..).unwrap();
    agent.write_all(STREAM).unwrap();
    let mut sent = 1;
    while ledger.entry(Stage::Source).dropped.is_empty() {
        agent.write_all(values).unwrap();
        sent += 1;
    }
    drop(agent);
    let (mut monitor, mut taken, mut bytes) = (Monitor::default(), 0, 0);
    let all = sent * expected().len() as u64;
    let done = |taken| {
        let entry = ledger.entry(Stage::Source);
        entry.received == all && entry.passed == taken && entry.held() == 0
    };
    let give_up = Instant::now() + Duration::from_secs(60);
    while !done(taken) {
        assert!(
            Instant::now() < give_up,
            "{:?}",
            ledger.entry(Stage::Source)
        );
        // It is counted after it was handed over.
        if let Ok(batch) = batches.recv_timeout(Duration::from_millis(20)) {
            bytes += batch.bytes.len();
            taken += count(&mut monitor, &batch.bytes);
        }
    }
    drop(source);
    assert!(bytes > WAITING_MAX / 2 && bytes < WAITING_MAX + READ_BYTES);
    let loss = batches.take_loss().unwrap();
    assert_eq!(loss.count, ledger.entry(Stage::Source).dropped_total());
    assert!(loss.first_ns > 0 && loss.first_ns <= loss.last_ns);
    assert_eq!(batches.take_loss(), None);
}

#[test]
fn a_file_in_the_sockets_place_is_an_outage_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor1_2.sock");
    let outage = || {
        let error = UnixStream::connect(&path).unwrap_err();
        Outage::of(&path, &Ended::Io(error))
    };
    assert_eq!(outage(), Outage::Absent);
    std::fs::write(&path, "").unwrap();
    assert_eq!(outage(), Outage::Misplaced);
}

fn count(monitor: &mut Monitor, mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while !bytes.is_empty() {
        let (payload, rest) = monitor.next(bytes).unwrap();
        count += u64::from(payload.is_some());
        bytes = rest;
    }
    count
}

/// Bytes of the definitions at the start of the stream.
fn definitions() -> usize {
    let (mut monitor, mut rest) = (Monitor::default(), STREAM);
    loop {
        let (payload, after) = monitor.next(rest).unwrap();
        if payload.is_some() {
            return STREAM.len() - rest.len();
        }
        rest = after;
    }
}

#[test]
fn waits_double_from_a_tenth_of_a_second_to_ten_seconds_and_are_cut_by_at_most_half() {
    let (mut longest, mut shortest) = (Backoff::default(), Backoff::default());
    let millis = |wait: Duration| wait.as_millis();
    let waits: Vec<_> = (0..9)
        .map(|_| (millis(shortest.next(0.0)), millis(longest.next(1.0))))
        .collect();
    assert_eq!(
        waits,
        [
            (50, 100),
            (100, 200),
            (200, 400),
            (400, 800),
            (800, 1600),
            (1600, 3200),
            (3200, 6400),
            (5000, 10_000),
            (5000, 10_000)
        ]
    );
}
