//! Requests that wait for their response.
//!
//! A response belongs to a request of the same conversation: same client, same server, same point of observation (a request is logged where
//! it leaves and again where it arrives). Within a conversation `X-Request-Id` and what was asked must agree where both records have them.
//! The id alone proves nothing: services hand it on to the services that they call, and one connection may carry several requests with it.
//! Of several requests that agree the newest is taken, so that a response that was lost does not shift all later ones.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::model::flow::{Flow, L7FlowType, L7Record, Question, TraceParent, TrafficDirection};

/// An address, if the record has one, and a port.
pub type End = (Option<IpAddr>, u16);

/// Where a request and its response were observed, and between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conversation {
    /// The side of the proxy.
    pub direction: TrafficDirection,
    /// Who asked.
    pub client: End,
    /// Who answered.
    pub server: End,
}

impl Conversation {
    /// Of a layer-7 flow of this kind: the ends of a response are exchanged.
    #[must_use]
    pub fn of(flow: &Flow, kind: L7FlowType) -> Self {
        let (source, destination) = flow
            .ip
            .map_or((None, None), |ip| (ip.source, ip.destination));
        let source = (source, flow.source_port());
        let destination = (destination, flow.destination_port());
        let (client, server) = if kind == L7FlowType::RESPONSE {
            (destination, source)
        } else {
            (source, destination)
        };
        Self {
            direction: flow.direction,
            client,
            server,
        }
    }
}

/// What a record says of the request that it is, or belongs to. Must be asked before redaction: requests may differ in what it takes out.
#[must_use]
pub fn question(record: &L7Record, request_id: &str) -> Question {
    let known = |text: &str| if text.is_empty() { 0 } else { hash(text) };
    let mut question = Question {
        id: known(request_id),
        ..Question::default()
    };
    match record {
        L7Record::None => {}
        L7Record::Dns(dns) => {
            question.protocol = 1;
            question.subject = hash((&dns.query, &dns.qtypes));
        }
        L7Record::Http(http) => {
            question.protocol = 2;
            question.subject = match (&*http.method, &*http.url) {
                ("", "") => 0,
                asked => hash(asked),
            };
            // Proxies read the next request of such a connection when they have answered the one before.
            question.one_at_a_time = http.protocol.starts_with("HTTP/1");
        }
        L7Record::Kafka(kafka) => {
            question.protocol = 3;
            // One message has a record for each of its topics.
            question.id = hash(kafka.correlation_id);
            question.subject = known(&kafka.topic);
        }
        L7Record::Generic(generic) => {
            question.protocol = 4;
            question.subject = hash(&generic.protocol);
        }
    }
    question
}

/// The same at every run; never zero, which stands for what a record does not have.
fn hash(value: impl Hash) -> u64 {
    FixedState::with_seed(0x7175_6573_7469_6f6e)
        .hash_one(value)
        .max(1)
}

/// Whether a response may be that of a request, both of one conversation.
fn agree(request: &Question, response: &Question) -> bool {
    let same = |a: u64, b: u64| a == 0 || b == 0 || a == b;
    let id_is_proof = request.one_at_a_time && request.id != 0 && request.id == response.id;
    request.protocol == response.protocol
        && same(request.id, response.id)
        && (id_is_proof || same(request.subject, response.subject))
}

/// What a request leaves for the latency and the trace of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The record's own time, nanoseconds since 1970.
    pub time_ns: i64,
    /// The trace of the request.
    pub trace: Option<TraceParent>,
}

/// Why a request waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The next request came over a connection that carries one at a time: the response was sent, but not seen here.
    Superseded,
    /// There was no room for a newer one.
    NoRoom,
}

/// How many requests may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Their number; at least one.
    pub count: usize,
    /// Their size, as the caller states it; the newest one may go beyond.
    pub bytes: usize,
}

#[derive(Clone, Debug)]
struct Waiting<T> {
    turn: u64,
    since_ns: u64,
    bytes: usize,
    question: Question,
    kept: T,
}

/// Requests by conversation, with what is kept of each.
#[derive(Clone, Debug)]
pub struct Requests<T> {
    limits: Limits,
    turn: u64,
    count: usize,
    bytes: usize,
    /// No list is empty; the newest stands last.
    waiting: HashMap<Conversation, Vec<Waiting<T>>, foldhash::fast::RandomState>,
    /// In order of arrival; an entry whose turn waits no longer is stale.
    order: VecDeque<(u64, Conversation)>,
}

impl<T> Requests<T> {
    /// None waits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Limits {
                count: limits.count.max(1),
                ..limits
            },
            turn: 0,
            count: 0,
            bytes: 0,
            waiting: HashMap::default(),
            order: VecDeque::new(),
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keeps a request of `bytes` bytes that came at `since_ns`. Hands to `gone` what waits no longer because of it.
    pub fn insert(
        &mut self,
        of: Conversation,
        question: Question,
        (since_ns, bytes): (u64, usize),
        kept: T,
        mut gone: impl FnMut(Gone, T),
    ) {
        if question.one_at_a_time {
            let before =
                |other: &Question| other.one_at_a_time && other.protocol == question.protocol;
            while let Some(old) = self.take_where(&of, before) {
                gone(Gone::Superseded, old);
            }
        }
        self.turn += 1;
        self.count += 1;
        self.bytes += bytes;
        self.order.push_back((self.turn, of));
        self.waiting.entry(of).or_default().push(Waiting {
            turn: self.turn,
            since_ns,
            bytes,
            question,
            kept,
        });
        while self.count > self.limits.count || (self.bytes > self.limits.bytes && self.count > 1) {
            match self.take_oldest() {
                Some(old) => gone(Gone::NoRoom, old),
                None => break,
            }
        }
        if self.order.len() > self.limits.count * 2 {
            let waiting = &self.waiting;
            self.order
                .retain(|(turn, of)| place(waiting.get(of), *turn).is_some());
        }
    }

    /// The request of a response, which then waits no longer. One with the response's id comes first.
    pub fn take(&mut self, of: &Conversation, response: &Question) -> Option<T> {
        let same_id = |request: &Question| {
            response.id != 0 && request.id == response.id && agree(request, response)
        };
        self.take_where(of, same_id)
            .or_else(|| self.take_where(of, |request| agree(request, response)))
    }

    /// Takes out what has waited since `until_ns` or longer, the oldest first.
    pub fn expire(&mut self, until_ns: u64, mut expired: impl FnMut(T)) {
        while let Some((turn, of)) = self.order.front() {
            let list = self.waiting.get(of);
            let waiting = place(list, *turn).and_then(|place| list?.get(place));
            if waiting.is_some_and(|waiting| waiting.since_ns > until_ns) {
                return;
            }
            if waiting.is_none() {
                self.order.pop_front();
            } else if let Some(old) = self.take_oldest() {
                expired(old);
            }
        }
    }

    /// Takes out everything, the oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.take_oldest())
    }

    fn take_oldest(&mut self) -> Option<T> {
        while let Some((turn, of)) = self.order.pop_front() {
            if let Some(place) = place(self.waiting.get(&of), turn) {
                return self.take_at(&of, place);
            }
        }
        None
    }

    /// The newest request of a conversation that is wanted.
    fn take_where(&mut self, of: &Conversation, wanted: impl Fn(&Question) -> bool) -> Option<T> {
        let list = self.waiting.get(of)?;
        let place = list.iter().rposition(|one| wanted(&one.question))?;
        self.take_at(of, place)
    }

    fn take_at(&mut self, of: &Conversation, place: usize) -> Option<T> {
        let list = self.waiting.get_mut(of)?;
        let taken = list.remove(place);
        if list.is_empty() {
            self.waiting.remove(of);
        }
        self.count -= 1;
        self.bytes -= taken.bytes;
        Some(taken.kept)
    }
}

/// Where in its list the request of this turn stands. Lists are in order of turns.
fn place<T>(list: Option<&Vec<Waiting<T>>>, turn: u64) -> Option<usize> {
    list?.binary_search_by_key(&turn, |one| one.turn).ok()
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
