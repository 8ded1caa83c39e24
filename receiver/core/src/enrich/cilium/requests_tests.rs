use proptest::prelude::*;

use super::*;
use crate::model::flow::{Http, Kafka};

fn conversation(port: u16) -> Conversation {
    Conversation {
        direction: TrafficDirection::EGRESS,
        client: (Some([10, 0, 0, 1].into()), port),
        server: (Some([10, 0, 0, 2].into()), 80),
    }
}

fn http(protocol: &str, url: &str, id: &str) -> Question {
    let http = Http {
        method: if url.is_empty() { "" } else { "GET" }.into(),
        url: url.into(),
        protocol: protocol.into(),
        ..Http::default()
    };
    question(&L7Record::Http(http), id)
}

fn table(count: usize) -> Requests<u32> {
    Requests::new(Limits { count, bytes: 1000 })
}

fn insert(table: &mut Requests<u32>, port: u16, question: Question, kept: u32) -> Vec<(Gone, u32)> {
    let mut gone = Vec::new();
    let since = (u64::from(kept), 1);
    table.insert(conversation(port), question, since, kept, |why, old| {
        gone.push((why, old));
    });
    gone
}

/// Of a waiting request and a response in one conversation.
#[track_caller]
fn check(request: Question, response: Question, is_found: bool) {
    let mut table = table(4);
    insert(&mut table, 1, request, 7);
    assert_eq!(table.take(&conversation(2), &response), None);
    let found = table.take(&conversation(1), &response);
    assert_eq!(found.is_some(), is_found);
    assert_eq!(table.is_empty(), is_found);
}

#[test]
fn a_response_agrees_with_its_request_in_what_both_have() {
    let kafka = |correlation_id, topic: &str| {
        let kafka = Kafka {
            correlation_id,
            topic: topic.into(),
            ..Kafka::default()
        };
        question(&L7Record::Kafka(kafka), "")
    };
    check(kafka(1, "a"), kafka(1, "a"), true);
    check(kafka(1, "a"), kafka(1, ""), true);
    check(kafka(1, "a"), kafka(2, "a"), false);
    check(kafka(1, "a"), kafka(1, "b"), false);
    check(kafka(1, "a"), http("HTTP/2", "", ""), false);
    let request = http("HTTP/2", "/a", "id");
    check(request, http("HTTP/2", "/a", "id"), true);
    check(request, http("HTTP/2", "/a", ""), true);
    check(request, http("", "", "id"), true);
    check(request, http("HTTP/2", "/a", "other"), false);
    check(request, http("HTTP/2", "/b", "id"), false);
    check(request, http("HTTP/2", "/b", ""), false);
    check(http("HTTP/2", "/a", ""), http("HTTP/2", "/a", "own"), true);
    // One request at a time and its id: that is proof enough.
    check(
        http("HTTP/1.1", "/a", "id"),
        http("HTTP/1.1", "/b", "id"),
        true,
    );
}

#[test]
fn the_request_with_the_id_comes_before_a_newer_one_without() {
    let mut table = table(4);
    insert(&mut table, 1, http("HTTP/2", "/a", "id"), 1);
    insert(&mut table, 1, http("HTTP/2", "/a", ""), 2);
    insert(&mut table, 1, http("HTTP/2", "/a", ""), 3);
    assert_eq!(
        table.take(&conversation(1), &http("HTTP/2", "/a", "id")),
        Some(1)
    );
    assert_eq!(
        table.take(&conversation(1), &http("HTTP/2", "/a", "id")),
        Some(3)
    );
    assert_eq!(table.len(), 1);
}

#[test]
fn a_connection_of_http_1_carries_one_request() {
    let mut table = table(4);
    insert(&mut table, 1, http("HTTP/1.1", "/a", ""), 1);
    insert(&mut table, 2, http("HTTP/1.1", "/a", ""), 2);
    let gone = insert(&mut table, 1, http("HTTP/1", "/b", ""), 3);
    assert_eq!(gone, [(Gone::Superseded, 1)]);
    assert_eq!(insert(&mut table, 3, http("HTTP/2", "/a", ""), 4), []);
    assert_eq!(insert(&mut table, 3, http("HTTP/2", "/b", ""), 5), []);
    assert_eq!(table.drain().collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert!(table.is_empty());
}

#[test]
fn the_oldest_goes_when_the_table_is_full() {
    let mut table = table(2);
    for kept in [1, 2] {
        assert_eq!(insert(&mut table, 1, http("", "/", ""), kept), []);
    }
    let gone = insert(&mut table, 2, http("", "/", ""), 3);
    assert_eq!(gone, [(Gone::NoRoom, 1)]);
    let mut gone = Vec::new();
    let large = http("", "/large", "");
    table.insert(conversation(3), large, (4, 1000), 4, |why, old| {
        gone.push((why, old));
    });
    // A request that is too large alone is kept all the same.
    assert_eq!(gone, [(Gone::NoRoom, 2), (Gone::NoRoom, 3)]);
    assert_eq!(table.drain().collect::<Vec<_>>(), [4]);
}

#[test]
fn answered_requests_take_no_room() {
    let mut table = table(4);
    for round in 0..10_000 {
        insert(&mut table, 1, http("HTTP/2", "/", "x"), round);
        assert_eq!(
            table.take(&conversation(1), &http("HTTP/2", "/", "x")),
            Some(round)
        );
    }
    assert!(table.order.len() <= 8 && table.waiting.is_empty());
    assert_eq!((table.count, table.bytes), (0, 0));
}

proptest! {
    /// Every request comes out once, and the books of the table are right at each step.
    #[test]
    fn no_request_is_lost_or_doubled(
        steps in prop::collection::vec((0u16..4, 0usize..3, any::<bool>(), 0usize..400), 0..200),
    ) {
        let protocols = ["HTTP/2", "HTTP/1.1", ""];
        let mut table = table(8);
        let (mut next, mut out) = (0, Vec::new());
        for (port, protocol, is_request, bytes) in steps {
            let question = http(protocols[protocol], "/", "");
            if is_request {
                let since = (u64::from(next), bytes);
                table.insert(conversation(port), question, since, next, |_, old| out.push(old));
                next += 1;
            } else {
                out.extend(table.take(&conversation(port), &question));
            }
            if bytes == 0 {
                let until = u64::from(next).saturating_sub(5);
                table.expire(until, |old| out.push(old));
            }
            let lists = table.waiting.values().map(Vec::len).sum::<usize>();
            prop_assert_eq!(lists, table.len());
            prop_assert!(table.len() <= 8 && (table.bytes <= 1000 || table.len() == 1));
            prop_assert!(table.order.len() <= 16);
        }
        out.extend(table.drain());
        prop_assert_eq!((table.count, table.bytes), (0, 0));
        out.sort_unstable();
        prop_assert_eq!(out, (0..next).collect::<Vec<_>>());
    }
}
