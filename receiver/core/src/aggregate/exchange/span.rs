//! An exchange → a span of the side at whose proxy it was seen.
//!
//! Trace and parent are those of the request's `traceparent`. Without one the trace is that of the request's `X-Request-Id`, if it is a
//! UUID: spans of the same request at other proxies then stand in one trace. All other ids follow from what the proxy logged: the same
//! record gives the same span, whoever reads it. A caller that does not record its trace has none of this span either.

use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use super::said::{Said, Side};
use super::{Exchange, record_time};
use crate::enrich::cilium::requests::Conversation;
use crate::model::flow::{Flow, L7Record};
use crate::model::resource::ResourceRef;
use crate::model::span::{SAMPLED, SpanContext, SpanId, SpanKind, SpanRecord, SpanStatus, TraceId};
use crate::semconv::exchange::SCOPE;

/// Of the two halves of a trace id, and of a span id.
const SEEDS: [u64; 3] = [
    0x6e65_7466_6c75_6d65,
    0x7472_6163_6500_0001,
    0x7370_616e_0000_0001,
];

/// The place of a request's span in its trace, whether it is recorded or not. `None` for flows that are no layer-7 ones.
#[must_use]
pub fn context(request: &Flow) -> Option<SpanContext> {
    let l7 = request.l7.as_deref()?;
    let conversation = Conversation::of(request, l7.kind);
    // Parsers of other protocols may log several requests of one moment.
    let fields = match &l7.record {
        L7Record::Generic(generic) => &*generic.fields,
        _ => &[],
    };
    let seen = (record_time(request), conversation, l7.question, fields);
    // Zero is no id.
    let number = |seed| FixedState::with_seed(seed).hash_one(seen).max(1);
    let trace_id: TraceId = match l7.trace {
        Some(parent) => parent.trace_id,
        None => uuid(&l7.request_id).unwrap_or_else(|| {
            let halves = [number(SEEDS[0]), number(SEEDS[1])];
            (u128::from(halves[0]) << 64 | u128::from(halves[1])).to_be_bytes()
        }),
    };
    let span_id: SpanId = number(SEEDS[2]).to_be_bytes();
    Some(SpanContext {
        trace_id,
        span_id,
        // Without a parent the decision is ours: it is recorded.
        flags: l7.trace.map_or(SAMPLED, |parent| parent.flags),
    })
}

/// The span of an exchange, of which this is said. `resource` is that of its side, see [`super::owner`].
#[must_use]
pub fn of(exchange: &Exchange, said: Said, resource: &ResourceRef) -> Option<SpanRecord> {
    let request = exchange.request.as_ref()?;
    let parent = request.l7.as_deref()?.trace;
    Some(SpanRecord {
        resource: resource.clone(),
        scope: SCOPE,
        context: context(request)?,
        parent_span_id: parent.map(|parent| parent.span_id),
        parent_is_remote: parent.is_some(),
        name: said.name,
        kind: match said.side {
            Side::Client => SpanKind::Client,
            Side::Server => SpanKind::Server,
        },
        start_unix_ns: exchange.start_ns,
        end_unix_ns: exchange
            .start_ns
            .saturating_add(exchange.duration_ns.unwrap_or(0)),
        attributes: said.attributes,
        status: match said.error {
            Some(_) => SpanStatus::Error(None),
            None => SpanStatus::Unset,
        },
    })
}

/// A UUID as a trace id. The digit of its version is left out: Envoy keeps its decision about the trace there.
fn uuid(text: &str) -> Option<TraceId> {
    let mut id = [0; 16];
    let digits: Vec<u8> = text
        .split('-')
        .zip([8, 4, 4, 4, 12])
        .filter(|(part, length)| part.len() == *length)
        .flat_map(|(part, _)| part.bytes())
        .map(|byte| char::from(byte).to_digit(16))
        .map(|digit| digit.and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    if text.len() != 36 || digits.len() != 32 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    id[6] &= 0x0f;
    (id != [0; 16]).then_some(id)
}

#[cfg(test)]
#[path = "span_tests.rs"]
mod tests;
