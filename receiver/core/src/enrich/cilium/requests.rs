//! Requests that wait for their response: when they started, and in which trace. Bounded; the oldest goes first.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::flow::TraceParent;

/// What a request leaves for its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The record's own time, nanoseconds since 1970.
    pub time_ns: i64,
    /// The trace of the request.
    pub trace: Option<TraceParent>,
}

/// Requests by `X-Request-Id`.
#[derive(Clone, Debug)]
pub struct Requests {
    capacity: usize,
    turn: u64,
    by_id: HashMap<Arc<str>, (u64, Started), foldhash::fast::RandomState>,
    /// In order of arrival; an entry whose turn is not that of the map is stale.
    order: VecDeque<(u64, Arc<str>)>,
}

impl Requests {
    /// Keeps at most `capacity` requests.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            turn: 0,
            by_id: HashMap::default(),
            order: VecDeque::new(),
        }
    }

    /// Remembers a request. A second one with the same id replaces the time, and the trace only when it has one.
    pub fn insert(&mut self, id: &str, started: Started) {
        self.turn += 1;
        let id: Arc<str> = id.into();
        let old = self.by_id.insert(Arc::clone(&id), (self.turn, started));
        if let (Some((_, old)), Some((_, new))) = (old, self.by_id.get_mut(&id)) {
            new.trace = new.trace.or(old.trace);
        }
        self.order.push_back((self.turn, id));
        while self.by_id.len() > self.capacity {
            let Some((turn, oldest)) = self.order.pop_front() else {
                return;
            };
            if self.is_current(turn, &oldest) {
                self.by_id.remove(&oldest);
            }
        }
        if self.order.len() > self.capacity * 2 {
            let by_id = &self.by_id;
            self.order
                .retain(|(turn, id)| by_id.get(id).is_some_and(|(known, _)| known == turn));
        }
    }

    /// The request of a response, which is then forgotten.
    pub fn remove(&mut self, id: &str) -> Option<Started> {
        self.by_id.remove(id).map(|(_, started)| started)
    }

    fn is_current(&self, turn: u64, id: &str) -> bool {
        self.by_id.get(id).is_some_and(|(known, _)| *known == turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time_ns: i64) -> Started {
        Started {
            time_ns,
            trace: None,
        }
    }

    #[test]
    fn a_response_takes_its_request_once() {
        let mut requests = Requests::new(2);
        requests.insert("a", at(1));
        assert_eq!(requests.remove("a"), Some(at(1)));
        assert_eq!(requests.remove("a"), None);
    }

    #[test]
    fn the_oldest_goes_when_the_table_is_full() {
        let mut requests = Requests::new(2);
        requests.insert("a", at(1));
        requests.insert("b", at(2));
        requests.insert("a", at(3));
        requests.insert("c", at(4));
        assert_eq!(requests.remove("b"), None);
        assert_eq!(requests.remove("a"), Some(at(3)));
        assert_eq!(requests.remove("c"), Some(at(4)));
    }

    #[test]
    fn answered_requests_take_no_room() {
        let mut requests = Requests::new(4);
        for round in 0..10_000 {
            requests.insert("x", at(round));
            assert_eq!(requests.remove("x"), Some(at(round)));
        }
        assert!(requests.order.len() <= 8);
    }
}
