//! Layer-7 flows → exchanges: a request joined with its response, how long it took, and what was given up on.
//!
//! How a response finds its request is written at [`Requests`]. Times are the proxy's own. The table is bounded in requests and in bytes:
//! when it is full the oldest request is given up.

use std::collections::VecDeque;

use crate::enrich::cilium::requests::{Conversation, Gone, Limits, Requests};
use crate::model::flow::{Flow, L7FlowType, L7Record, Layer7, Question, Verdict};

pub mod owner;
pub mod red;
pub mod said;
pub mod span;
mod url;

/// Denials that are remembered, so that one which the proxy logs again is not reported twice.
const DENIALS_MAX: usize = 64;

/// Bounds of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeOptions {
    /// Requests that may wait at once. Default: 4096.
    pub capacity: usize,
    /// Bytes of the records that wait. Default: 16 MiB.
    pub bytes: usize,
    /// How long a request waits for its response, nanoseconds. Default: 30 s.
    pub timeout_ns: u64,
}

impl Default for ExchangeOptions {
    fn default() -> Self {
        Self {
            capacity: 4096,
            bytes: 16 << 20,
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
    /// A generic parser's request without a response. Some of these parsers log requests alone, so this says nothing of the answer.
    RequestOnly,
    /// Given up before its time: the table was full. Nothing is known of its end.
    NoRoom,
    /// The next request of its connection shows that it was answered; the response itself was not seen.
    Superseded,
    /// The request was not seen: it came before we did, or was given up.
    ResponseOnly,
    /// The proxy logged a denial again that was complete already.
    Repeated,
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

/// Requests that wait for their response.
#[derive(Debug)]
pub struct Exchanges {
    timeout_ns: u64,
    waiting: Requests<Flow>,
    /// The last denials that were answered: between whom, of what, and when.
    denials: VecDeque<(Conversation, Question, u64)>,
}

impl Exchanges {
    /// An empty table.
    #[must_use]
    pub fn new(options: ExchangeOptions) -> Self {
        Self {
            timeout_ns: options.timeout_ns,
            waiting: Requests::new(Limits {
                count: options.capacity,
                bytes: options.bytes,
            }),
            denials: VecDeque::new(),
        }
    }

    /// Requests wait for so long from now on, nanoseconds; what waits stays.
    pub fn set_timeout(&mut self, timeout_ns: u64) {
        self.timeout_ns = timeout_ns;
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

    /// Takes a flow; false for those that are no layer-7 requests or responses, which are left. Hands to `out` what is complete by it, and
    /// what had to be given up for it.
    pub fn observe(&mut self, flow: &Flow, mut out: impl FnMut(Exchange)) -> bool {
        let Some(l7) = flow.l7.as_deref() else {
            return false;
        };
        let conversation = Conversation::of(flow, l7.kind);
        match l7.kind {
            _ if l7.record == L7Record::None => return false,
            L7FlowType::REQUEST if self.is_repeated(&conversation, flow, l7) => {
                out(alone(flow.clone(), Outcome::Repeated));
            }
            L7FlowType::REQUEST if is_over(flow, l7) => {
                out(alone(flow.clone(), Outcome::Denied));
            }
            L7FlowType::REQUEST => {
                let size = size_of::<Flow>() + l7.size();
                self.waiting.insert(
                    conversation,
                    l7.question,
                    (flow.time_ns, size),
                    flow.clone(),
                    |gone, old| out(given_up(old, gone)),
                );
            }
            L7FlowType::RESPONSE => {
                let request = self.waiting.take(&conversation, &l7.question);
                if request.as_ref().is_some_and(is_denied) {
                    self.remember(conversation, flow, l7);
                }
                out(joined(request, flow.clone()));
            }
            _ => return false,
        }
        true
    }

    /// Some proxies log a denied request when it comes, and the same entry again after they answered it: with the answer's status and time.
    fn is_repeated(&self, conversation: &Conversation, flow: &Flow, l7: &Layer7) -> bool {
        is_over(flow, l7)
            && self
                .denials
                .contains(&(*conversation, l7.question, record_time(flow)))
    }

    fn remember(&mut self, conversation: Conversation, flow: &Flow, l7: &Layer7) {
        if self.denials.len() == DENIALS_MAX {
            self.denials.pop_front();
        }
        self.denials
            .push_back((conversation, l7.question, record_time(flow)));
    }

    /// Gives up what waits too long at `now_ns`, by the time at which the flows were read.
    pub fn expire(&mut self, now_ns: u64, mut out: impl FnMut(Exchange)) {
        let Some(until_ns) = now_ns.checked_sub(self.timeout_ns) else {
            return;
        };
        let timeout_ns = self.timeout_ns;
        self.waiting.expire(until_ns, |old| {
            let outcome = without_response(&old).unwrap_or(Outcome::Unanswered);
            out(Exchange {
                duration_ns: (outcome == Outcome::Unanswered).then_some(timeout_ns),
                ..alone(old, outcome)
            });
        });
    }

    /// The end: hands to `out` what is known of those that wait, and gives the number of the others.
    pub fn close(&mut self, mut out: impl FnMut(Exchange)) -> u64 {
        let mut unknown = 0;
        for old in self.waiting.drain() {
            match without_response(&old) {
                Some(outcome) => out(alone(old, outcome)),
                None => unknown += 1,
            }
        }
        unknown
    }
}

fn is_denied(request: &Flow) -> bool {
    request.verdict == Verdict::DROPPED
}

/// Whether a request waits for nothing: it was denied, and its record has the proxy's answer, or the protocol has none in a record of its own.
fn is_over(request: &Flow, l7: &Layer7) -> bool {
    is_denied(request) && (l7.status != 0 || !matches!(l7.record, L7Record::Http(_)))
}

/// What is known of a request without its response.
fn without_response(request: &Flow) -> Option<Outcome> {
    match request.l7_record() {
        _ if is_denied(request) => Some(Outcome::Denied),
        Some(L7Record::Generic(_)) => Some(Outcome::RequestOnly),
        _ => None,
    }
}

fn given_up(request: Flow, gone: Gone) -> Exchange {
    let outcome = without_response(&request).unwrap_or(match gone {
        Gone::NoRoom => Outcome::NoRoom,
        Gone::Superseded => Outcome::Superseded,
    });
    alone(request, outcome)
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
    let denied = response.verdict == Verdict::DROPPED;
    Exchange {
        start_ns: start_ns.unwrap_or(end_ns),
        // Two proxies' clocks may differ.
        duration_ns: start_ns.map(|start| end_ns.saturating_sub(start)),
        outcome: match &request {
            None => Outcome::ResponseOnly,
            Some(request) if denied || is_denied(request) => Outcome::Denied,
            Some(_) => Outcome::Answered,
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

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
