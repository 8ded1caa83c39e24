//! The agent's own listener at full speed, its death in the middle of messages, and the bytes that we count against those it wrote.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use netflume_tests::oracle::{Counts, Server};
use netflume_tests::page::Page;
use netflume_tests::wait;

use crate::support::{Place, STREAMS, is_decoded, large, payloads, run, stream};

/// Lines of what netflume says of itself that hold `text`.
fn lines(said: &str, text: &str) -> u64 {
    said.lines().filter(|line| line.contains(text)).count() as u64
}

/// Waits until what the agent wrote and what netflume decoded are the same, to the byte, and stay so.
fn settled(server: &mut Server, page: std::net::SocketAddr) -> Result<(Counts, Page)> {
    let mut before = None;
    let mut seen = String::new();
    wait::until("what was written is decoded", || {
        let counts = server.counts().ok()?;
        let page = Page::read(page).ok()?;
        let socket = page.source("cilium");
        seen = format!("{counts:?}\n{socket:?} {:?}", page.stage("decode"));
        let same = counts.is_done()
            && socket.bytes == counts.get("bytes")
            && socket.received - page.count("netflume_dropped_total", CUT_OFF)
                == counts.get("written")
            && is_decoded(&page);
        let again = before.as_ref() == Some(&counts.get("bytes"));
        before = same.then(|| counts.get("bytes"));
        (same && again).then_some((counts, page))
    })
    .with_context(|| seen)
}

const QUEUE_FULL: &[(&str, &str)] = &[("stage", "source"), ("reason", "queue_full")];
const CUT_OFF: &[(&str, &str)] = &[("stage", "source"), ("reason", "cut_off")];

#[test]
#[ignore = "needs the oracle, which cargo xtask setup builds"]
fn at_full_speed_all_that_the_agent_wrote_is_decoded_and_what_its_queue_dropped_is_known()
-> Result<()> {
    let place = Place::new()?;
    let streams = STREAMS.map(stream);
    let mut server = Server::agent(&place.socket(), "-stay -count 300000", &streams)?;
    let (mut agent, page) = run(&place.socket(), "")?;
    let (counts, page) = settled(&mut server, page)?;
    let socket = page.source("cilium");
    assert_eq!(counts.get("sent"), 300_000);
    assert_eq!(
        counts.get("offered"),
        counts.get("dropped") + socket.received,
        "{counts:?}"
    );
    let refused = page.count("netflume_dropped_total", QUEUE_FULL);
    assert_eq!(socket.dropped, refused);
    if refused == 0 {
        assert_eq!(socket.bytes, page.stage("decode").bytes);
    }
    assert_eq!(counts.get("connections"), 1);
    agent.stop()?;
    assert_eq!(lines(&agent.stderr(), "WARN"), 0, "{}", agent.stderr());
    Ok(())
}

#[test]
#[ignore = "needs the oracle, which cargo xtask setup builds"]
fn at_a_gentle_pace_every_event_arrives_and_losses_are_told() -> Result<()> {
    let place = Place::new()?;
    let streams = STREAMS.map(stream);
    let mut server = Server::agent(&place.socket(), "-stay -rate 2000", &streams)?;
    let (mut agent, page) = run(&place.socket(), "")?;
    let (mut samples, mut losses) = (0, 0);
    for path in &streams {
        let (some, lost) = payloads(path)?;
        (samples, losses) = (samples + some, losses + lost);
    }
    assert!(losses > 0);
    let (counts, page) = settled(&mut server, page)?;
    assert_eq!(counts.get("dropped"), 0);
    assert_eq!(page.source("cilium").received, samples + losses);
    wait::until("the losses on the page", || {
        let page = Page::read(agent.listens("extensions.prometheus").ok()?).ok()?;
        (page.count("hubble_lost_events_total", &[]) == losses).then_some(())
    })?;
    agent.stop()?;
    Ok(())
}

#[test]
#[ignore = "needs the oracle, which cargo xtask setup builds"]
fn agents_that_die_in_the_middle_of_messages_are_found_again_and_nothing_is_lost_from_sight()
-> Result<()> {
    // Most of what it writes are messages that fill the socket's buffer more than once.
    let place = Place::new()?;
    let mut streams = vec![stream("l7"); 1];
    large(&place.path("large.gob"), 1 << 20)?;
    streams.resize(20, place.path("large.gob"));
    let mut server = Server::agent(&place.socket(), "-stay -rate 1000 -count 1000000", &streams)?;
    let (mut agent, page) = run(&place.socket(), "")?;
    let cut_off = || Page::read(page).map(|page| page.count("netflume_dropped_total", CUT_OFF));
    let mut restarts = 0;
    while restarts < 5 || (cut_off()? == 0 && restarts < 50) {
        let written = server.counts()?.get("written");
        wait::until("some events are written", || {
            (server.counts().ok()?.get("written") > written + 300).then_some(())
        })?;
        let before = Instant::now();
        restarts += 1;
        server.restart()?;
        wait::until("netflume is back", || {
            (server.counts().ok()?.get("connections") > restarts).then_some(())
        })?;
        let waited = before.elapsed();
        // The shortest wait is 50 ms; it begins when the end is seen, which may be a moment before we look.
        assert!(waited.as_millis() >= 45, "back after {waited:?}");
    }
    let counts = server.stop()?;
    let mut seen = String::new();
    wait::until("the last bytes are in the books", || {
        let page = Page::read(page).ok()?;
        let socket = page.source("cilium");
        seen = format!("{counts:?}\n{socket:?} {:?}", page.stage("decode"));
        (socket.bytes == counts.get("bytes") && is_decoded(&page)).then_some(())
    })
    .with_context(|| seen)?;
    let cut_off = cut_off()?;
    let page = Page::read(page)?;
    let socket = page.source("cilium");
    assert!(cut_off > 0, "no agent died in the middle of a message");
    assert_eq!(socket.received, counts.get("written") + cut_off);
    assert_eq!(
        socket.dropped,
        cut_off + page.count("netflume_dropped_total", QUEUE_FULL)
    );
    agent.stop()?;
    // One line for each outage, that of the end included.
    let (said, outages) = (agent.stderr(), restarts + 1);
    assert_eq!(lines(&said, "WARN"), outages, "{said}");
    let closed = lines(&said, "the agent closed the connection");
    assert_eq!(closed, outages, "{said}");
    assert_eq!(lines(&said, "receivers.cilium reads"), outages, "{said}");
    Ok(())
}

#[test]
#[ignore = "needs the oracle, which cargo xtask setup builds"]
fn a_stream_cut_anywhere_in_a_message_gives_all_whole_messages_before_it() -> Result<()> {
    let place = Place::new()?;
    let length = fs::metadata(stream("trace"))?.len();
    let (samples, _) = payloads(&stream("trace"))?;
    let clients = 8;
    let options = format!("-clients {clients} -cut {}", length - 5);
    let mut server = Server::raw(&place.socket(), &options, stream("trace"))?;
    let (mut agent, page) = run(&place.socket(), "")?;
    for _ in 0..clients {
        let counts = server.next_counts(wait::patience())?;
        assert_eq!(counts.get("bytes"), length - 5);
    }
    wait::until("all connections are decoded", || {
        let page = Page::read(page).ok()?;
        let socket = page.source("cilium");
        let all = socket.bytes == clients * (length - 5)
            && socket.received == clients * samples
            && socket.dropped == clients
            && page.count("netflume_dropped_total", CUT_OFF) == clients;
        (all && is_decoded(&page)).then_some(())
    })
    .with_context(|| agent.stderr())?;
    agent.stop()?;
    let said = agent.stderr();
    assert_eq!(
        lines(&said, "in the middle of a message"),
        clients,
        "{said}"
    );
    Ok(())
}
