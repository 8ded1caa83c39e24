//! Layer-7 flows → exchanges: a request joined with its response, how long it took, and what was given up on.
//!
//! HTTP is joined by `X-Request-Id` within one point of observation (the same request is logged where it leaves and where it arrives);
//! everything else, and HTTP without the header, by both ends and what was asked. Times are the proxy's own. The table is bounded:
//! when it is full the oldest request is given up.

use std::collections::VecDeque;
use std::net::IpAddr;

use hashbrown::HashMap;

use crate::model::flow::{Flow, L7FlowType, L7Record, Layer7, TrafficDirection, Verdict};

pub mod owner;
pub mod red;
pub mod said;
pub mod span;
mod url;

/// Bounds of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeOptions {
    /// Requests that may wait at once. Default: 4096.
    pub capacity: usize,
    /// How long a request waits for its response, nanoseconds. Default: 30 s.
    pub timeout_ns: u64,
}

impl Default for ExchangeOptions {
    fn default() -> Self {
        Self {
            capacity: 4096,
            timeout_ns: 30_000_000_000,
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The response came.
    Answered,
    /// Policy let the request, or the response, not pass.
    Denied,
    /// No response came in time.
    Unanswered,
    /// Given up before its time: the table was full, or the next request of its connection took its place. Nothing is known of it.
    NoRoom,
    /// The request was not seen: it came before we did, or was given up.
    ResponseOnly,
}

/// A request with its response. At least one of them is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// The request; its `source` is the client.
    pub request: Option<Flow>,
    /// The response; its `source` is the server.
    pub response: Option<Flow>,
    /// When the request started, nanoseconds since 1970; of a response alone when it ended.
    pub start_ns: u64,
    /// From the start of the request to the end of the response, nanoseconds; of an unanswered one how long it was waited for;
    /// `None` when neither is known.
    pub duration_ns: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// One request among those that wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Where it was seen, and the `X-Request-Id`.
    Id(TrafficDirection, Box<str>),
    /// Client and server, address and port, and what was asked.
    Ends(End, End, Question),
}

type End = (Option<IpAddr>, u16);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    /// Requests of one connection follow each other.
    Connection(TrafficDirection),
    /// Name and types: several questions share a socket.
    Dns(Box<str>, Vec<u16>),
    /// Correlation id.
    Kafka(i32),
}

#[derive(Debug)]
struct Waiting {
    turn: u64,
    since_ns: u64,
    request: Flow,
}

/// Requests that wait for their response.
#[derive(Debug)]
pub struct Exchanges {
    options: ExchangeOptions,
    turn: u64,
    waiting: HashMap<Key, Waiting, foldhash::fast::RandomState>,
    /// In order of arrival; an entry whose turn is not that of the map is stale.
    order: VecDeque<(u64, Key)>,
}

impl Exchanges {
    /// An empty table.
    #[must_use]
    pub fn new(options: ExchangeOptions) -> Self {
        Self {
            options,
            turn: 0,
            waiting: HashMap::default(),
            order: VecDeque::new(),
        }
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a flow, and says so; those that are no layer-7 requests or responses are left. Hands to `out` what is complete by it, and
    /// what had to be given up for it.
    pub fn observe(&mut self, flow: &Flow, mut out: impl FnMut(Exchange)) -> bool {
        let Some(l7) = flow.l7.as_deref() else {
            return false;
        };
        match l7.kind {
            _ if l7.record == L7Record::None => return false,
            // A denied request has no response; what comes back is the proxy's own.
            L7FlowType::REQUEST if flow.verdict == Verdict::DROPPED => {
                out(alone(flow.clone(), Outcome::Denied));
            }
            L7FlowType::REQUEST => self.wait(flow, l7, out),
            L7FlowType::RESPONSE => {
                let request = self
                    .waiting
                    .remove(&key(flow, l7))
                    .map(|waiting| waiting.request);
                out(joined(request, flow.clone()));
            }
            _ => return false,
        }
        true
    }

    fn wait(&mut self, flow: &Flow, l7: &Layer7, mut out: impl FnMut(Exchange)) {
        self.turn += 1;
        let key = key(flow, l7);
        let waiting = Waiting {
            turn: self.turn,
            since_ns: flow.time_ns,
            request: flow.clone(),
        };
        self.order.push_back((self.turn, key.clone()));
        if let Some(displaced) = self.waiting.insert(key, waiting) {
            out(alone(displaced.request, Outcome::NoRoom));
        }
        while self.waiting.len() > self.options.capacity.max(1) {
            match self.oldest() {
                Some(oldest) => out(alone(oldest.request, Outcome::NoRoom)),
                None => break,
            }
        }
        if self.order.len() > self.options.capacity.max(1) * 2 {
            let waiting = &self.waiting;
            self.order
                .retain(|(turn, key)| waiting.get(key).is_some_and(|w| w.turn == *turn));
        }
    }

    /// Gives up what waits too long at `now_ns`, by the time at which the flows were read.
    pub fn expire(&mut self, now_ns: u64, mut out: impl FnMut(Exchange)) {
        while let Some((turn, key)) = self.order.front() {
            let Some(waiting) = self.waiting.get(key).filter(|w| w.turn == *turn) else {
                self.order.pop_front();
                continue;
            };
            if now_ns.saturating_sub(waiting.since_ns) < self.options.timeout_ns {
                return;
            }
            if let Some(oldest) = self.oldest() {
                out(Exchange {
                    duration_ns: Some(self.options.timeout_ns),
                    ..alone(oldest.request, Outcome::Unanswered)
                });
            }
        }
    }

    /// Forgets what waits: the end. Gives its number.
    pub fn forget(&mut self) -> usize {
        self.order.clear();
        std::mem::take(&mut self.waiting).len()
    }

    /// Takes the request out that waits longest.
    fn oldest(&mut self) -> Option<Waiting> {
        while let Some((turn, key)) = self.order.pop_front() {
            if self.waiting.get(&key).is_some_and(|w| w.turn == turn) {
                return self.waiting.remove(&key);
            }
        }
        None
    }
}

fn alone(request: Flow, outcome: Outcome) -> Exchange {
    Exchange {
        start_ns: record_time(&request),
        request: Some(request),
        response: None,
        duration_ns: None,
        outcome,
    }
}

fn joined(request: Option<Flow>, response: Flow) -> Exchange {
    let end_ns = record_time(&response);
    let start_ns = request.as_ref().map(record_time);
    Exchange {
        start_ns: start_ns.unwrap_or(end_ns),
        // Two proxies' clocks may differ.
        duration_ns: start_ns.map(|start| end_ns.saturating_sub(start)),
        outcome: match (&request, response.verdict) {
            (None, _) => Outcome::ResponseOnly,
            (Some(_), Verdict::DROPPED) => Outcome::Denied,
            (Some(_), _) => Outcome::Answered,
        },
        request,
        response: Some(response),
    }
}

/// The proxy's own time; when it gave none that makes sense, that of the read.
fn record_time(flow: &Flow) -> u64 {
    let time = flow.l7.as_deref().map_or(0, |l7| l7.record_time_ns);
    u64::try_from(time)
        .ok()
        .filter(|time| *time > 0)
        .unwrap_or(flow.time_ns)
}

/// Source and destination.
fn ends(flow: &Flow) -> (End, End) {
    let (source, destination) = flow
        .ip
        .map_or((None, None), |ip| (ip.source, ip.destination));
    (
        (source, flow.source_port()),
        (destination, flow.destination_port()),
    )
}

/// The same for a request and its response: the ends of a response are exchanged.
fn key(flow: &Flow, l7: &Layer7) -> Key {
    if !l7.request_id.is_empty() {
        return Key::Id(flow.direction, l7.request_id.clone());
    }
    let (source, destination) = ends(flow);
    let (client, server) = if l7.kind == L7FlowType::RESPONSE {
        (destination, source)
    } else {
        (source, destination)
    };
    let question = match &l7.record {
        L7Record::Dns(dns) => Question::Dns(dns.query.clone(), dns.qtypes.clone()),
        L7Record::Kafka(kafka) => Question::Kafka(kafka.correlation_id),
        L7Record::Http(_) | L7Record::Generic(_) | L7Record::None => {
            Question::Connection(flow.direction)
        }
    };
    Key::Ends(client, server, question)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flow::{Dns, Http, Ip, IpVersion, L4};

    const CLIENT: (&str, u16) = ("10.0.0.1", 40_000);
    const SERVER: (&str, u16) = ("10.0.0.2", 80);

    fn flow(kind: L7FlowType, time: i64, id: &str, record: L7Record) -> Flow {
        let (source, destination) = if kind == L7FlowType::REQUEST {
            (CLIENT, SERVER)
        } else {
            (SERVER, CLIENT)
        };
        Flow {
            time_ns: u64::try_from(time).unwrap(),
            verdict: Verdict::FORWARDED,
            ip: Some(Ip {
                source: source.0.parse().ok(),
                destination: destination.0.parse().ok(),
                version: IpVersion::IPv4,
                ..Ip::default()
            }),
            l4: Some(L4::Udp {
                source_port: source.1,
                destination_port: destination.1,
            }),
            l7: Some(Box::new(Layer7 {
                kind,
                record,
                record_time_ns: time,
                request_id: id.into(),
                ..Layer7::default()
            })),
            ..Flow::default()
        }
    }

    fn http(kind: L7FlowType, time: i64, id: &str) -> Flow {
        flow(kind, time, id, L7Record::Http(Http::default()))
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
        })
    }

    fn observe(table: &mut Exchanges, flow: &Flow) -> Vec<(Outcome, u64, Option<u64>)> {
        let mut out = Vec::new();
        table.observe(flow, |e| out.push((e.outcome, e.start_ns, e.duration_ns)));
        out
    }

    #[test]
    fn a_response_finds_its_request_by_its_id() {
        let mut table = table(8);
        assert_eq!(observe(&mut table, &http(L7FlowType::REQUEST, 10, "a")), []);
        assert_eq!(observe(&mut table, &http(L7FlowType::REQUEST, 20, "b")), []);
        let answered = [(Outcome::Answered, 10, Some(20))];
        assert_eq!(
            observe(&mut table, &http(L7FlowType::RESPONSE, 30, "a")),
            answered
        );
        let unknown = [(Outcome::ResponseOnly, 31, None)];
        assert_eq!(
            observe(&mut table, &http(L7FlowType::RESPONSE, 31, "a")),
            unknown
        );
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn the_same_request_at_two_points_is_two_exchanges() {
        let mut table = table(8);
        let at = |kind, time, direction| Flow {
            direction,
            ..http(kind, time, "a")
        };
        observe(
            &mut table,
            &at(L7FlowType::REQUEST, 10, TrafficDirection::EGRESS),
        );
        observe(
            &mut table,
            &at(L7FlowType::REQUEST, 12, TrafficDirection::INGRESS),
        );
        let ingress = observe(
            &mut table,
            &at(L7FlowType::RESPONSE, 20, TrafficDirection::INGRESS),
        );
        assert_eq!(ingress, [(Outcome::Answered, 12, Some(8))]);
        let egress = observe(
            &mut table,
            &at(L7FlowType::RESPONSE, 22, TrafficDirection::EGRESS),
        );
        assert_eq!(egress, [(Outcome::Answered, 10, Some(12))]);
    }

    #[test]
    fn without_an_id_the_ends_and_the_question_tell() {
        let mut table = table(8);
        observe(&mut table, &dns(L7FlowType::REQUEST, 10, 1));
        observe(&mut table, &dns(L7FlowType::REQUEST, 11, 28));
        assert_eq!(
            observe(&mut table, &dns(L7FlowType::RESPONSE, 20, 28)),
            [(Outcome::Answered, 11, Some(9))]
        );
        assert_eq!(
            observe(&mut table, &dns(L7FlowType::RESPONSE, 21, 1)),
            [(Outcome::Answered, 10, Some(11))]
        );
    }

    #[test]
    fn a_denied_request_does_not_wait() {
        let mut table = table(8);
        let denied = Flow {
            verdict: Verdict::DROPPED,
            ..http(L7FlowType::REQUEST, 10, "a")
        };
        assert_eq!(observe(&mut table, &denied), [(Outcome::Denied, 10, None)]);
        assert!(table.is_empty());
    }

    #[test]
    fn what_waits_too_long_or_finds_no_room_is_given_up() {
        let mut table = table(2);
        observe(&mut table, &http(L7FlowType::REQUEST, 10, "a"));
        observe(&mut table, &http(L7FlowType::REQUEST, 20, "b"));
        let given_up = observe(&mut table, &http(L7FlowType::REQUEST, 30, "c"));
        assert_eq!(given_up, [(Outcome::NoRoom, 10, None)]);
        let mut expired = Vec::new();
        table.expire(120, |e| {
            expired.push((e.outcome, e.start_ns, e.duration_ns))
        });
        let late = (Outcome::Unanswered, 20, Some(100));
        assert_eq!((expired, table.len()), (vec![late], 1));
        let again = observe(&mut table, &http(L7FlowType::REQUEST, 40, "c"));
        assert_eq!(again, [(Outcome::NoRoom, 30, None)]);
        assert_eq!((table.forget(), table.len()), (1, 0));
    }

    #[test]
    fn answered_requests_take_no_room() {
        let mut table = table(4);
        for time in 1..1000 {
            observe(&mut table, &http(L7FlowType::REQUEST, time, "a"));
            observe(&mut table, &http(L7FlowType::RESPONSE, time, "a"));
        }
        assert!(table.is_empty() && table.order.len() <= 8);
    }

    #[test]
    fn other_flows_are_left() {
        let mut table = table(4);
        assert_eq!(observe(&mut table, &Flow::default()), []);
        let nothing = flow(L7FlowType::REQUEST, 1, "a", L7Record::None);
        assert!(!table.observe(&nothing, |_| {}));
        assert_eq!(observe(&mut table, &http(L7FlowType::SAMPLE, 1, "a")), []);
    }
}
