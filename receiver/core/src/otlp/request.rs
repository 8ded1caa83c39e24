//! Items (log records, metrics, spans) in any order to export requests, in which those of one resource and scope stand
//! together, cut below a size.
//!
//! The three signals have the same frame, field numbers included: a request holds `ResourceX` (1), each of them a `resource`
//! (1), `ScopeX` (2) and a schema URL (3), each of those a `scope` (1), the items (2) and a schema URL (3). Items are written once
//! into one buffer; a request is put together from its pieces with a single copy, and one of a single group is the buffer itself.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::model::request::{Request, Signal};
use crate::model::resource::ResourceRef;
use crate::otlp::resource::{EncodedResource, ResourceCache};
use crate::otlp::wire;
use crate::semconv;

/// `ExportXServiceRequest.resource_x`.
const RESOURCE_X: u8 = 1;
/// `ResourceX.scope_x`.
const SCOPE_X: u8 = 2;
/// `ScopeX.scope`.
const SCOPE: u8 = 1;
/// `ScopeX.items`.
pub(crate) const ITEMS: u8 = 2;
/// `ScopeX.schema_url`.
const SCHEMA_URL: u8 = 3;
/// The most that tag and length of one message take.
const HEADER_MAX: usize = 6;
/// Groups of one request; more start another one.
const GROUPS_MAX: usize = 16 * 1024;
/// Room that the buffer keeps when it has had little to do.
const KEEP_BYTES: usize = 256 * 1024;

/// The default of `max_request_bytes`: below the 4 MiB that a Collector takes, with room for what it adds.
pub const MAX_REQUEST_BYTES: usize = 3_584 * 1024;

/// No further piece.
const NONE: usize = usize::MAX;

/// Where a run of items of one group lies in the buffer.
#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    /// The group's next piece, or [`NONE`].
    next: usize,
}

/// The items of one resource and scope.
#[derive(Debug)]
struct Group {
    resource: Arc<EncodedResource>,
    /// Index of its scope.
    scope: usize,
    /// Bytes of all its items.
    bytes: usize,
    first: usize,
    last: usize,
}

/// Collects the items of one signal.
#[derive(Debug)]
pub struct RequestBuilder {
    signal: Signal,
    max_bytes: usize,
    resources: ResourceCache,
    /// Encoded `scope` and `schema_url` fields, by scope name. A handful.
    scopes: Vec<(&'static str, Box<[u8]>)>,
    /// Group of a (resource, scope) in the request under way.
    index: HashMap<(usize, usize), usize, FixedState>,
    groups: Vec<Group>,
    pieces: Vec<Piece>,
    /// Room for the headers of the request's first group, then items. Empty when there are none.
    buffer: Vec<u8>,
    /// Bytes of that room.
    room: usize,
    /// What the next buffer will need, if that is known.
    capacity: usize,
    /// The most that was in the buffer since the last [`Self::finish`].
    most_filled: usize,
    /// Never less than what the finished request will take.
    size: usize,
    items: u64,
}

impl RequestBuilder {
    /// Makes requests of at most `max_bytes`; a single item that is larger goes alone.
    #[must_use]
    pub fn new(signal: Signal, max_bytes: usize) -> Self {
        Self {
            signal,
            max_bytes,
            resources: ResourceCache::default(),
            scopes: Vec::new(),
            index: HashMap::default(),
            groups: Vec::new(),
            pieces: Vec::new(),
            buffer: Vec::new(),
            room: 0,
            capacity: 0,
            most_filled: 0,
            size: 0,
            items: 0,
        }
    }

    /// Adds one item, which counts as `count`; `write` writes its message. Gives back the request of what was added before
    /// if the item did not fit into it any more.
    #[inline]
    pub fn add(
        &mut self,
        resource: &ResourceRef,
        scope: &'static str,
        count: u64,
        write: impl FnOnce(&mut Vec<u8>, &EncodedResource),
    ) -> Option<Request> {
        let resource = self.resources.number(resource);
        let scope = self.scope(scope);
        if self.buffer.is_empty() {
            self.begin(resource, scope);
        }
        let start = self.buffer.len();
        let encoded = self.resources.encoded(resource);
        wire::message::<2>(&mut self.buffer, ITEMS, |out| write(out, encoded));

        let known = self.index.get(&(resource, scope)).copied();
        let added = self.buffer.len() - start
            + known.map_or_else(|| self.frame_bytes(resource, scope), |_| 0);
        let full = self.items > 0
            && (self.size + added > self.max_bytes || self.groups.len() >= GROUPS_MAX);
        let (request, start, known) = if full {
            self.most_filled = self.most_filled.max(start);
            let item = self.buffer.split_off(start);
            let alone = self.groups.len() == 1;
            let request = self.assemble();
            if alone {
                // The next one is most likely as large, and of one group: just the buffer for it.
                self.buffer = Vec::new();
                self.capacity = self.max_bytes + self.room + item.len();
            }
            self.begin(resource, scope);
            self.buffer.extend_from_slice(&item);
            (Some(request), self.room, None)
        } else {
            (None, start, known)
        };
        self.book(known, resource, scope, start);
        self.items += count;
        request
    }

    /// The request of what was added and not given back yet, if there is any.
    #[must_use]
    pub fn finish(&mut self) -> Option<Request> {
        let filled = self.most_filled.max(self.buffer.len());
        let request = (self.items > 0).then(|| self.assemble());
        self.most_filled = 0;
        // A busy sender fills it again at once, and fresh memory costs a fault a page.
        if filled < self.buffer.capacity() / 4 {
            self.buffer.shrink_to(KEEP_BYTES);
        }
        self.resources.shrink();
        request
    }

    /// Items that were added and not given back yet.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Books the item between `start` and the end of the buffer into its group.
    fn book(&mut self, group: Option<usize>, resource: usize, scope: usize, start: usize) {
        let end = self.buffer.len();
        let Some(number) = group else {
            let piece = self.pieces.len();
            self.pieces.push(Piece {
                start,
                end,
                next: NONE,
            });
            self.size += self.frame_bytes(resource, scope) + end - start;
            self.index.insert((resource, scope), self.groups.len());
            self.groups.push(Group {
                resource: self.resources.encoded(resource).clone(),
                scope,
                bytes: end - start,
                first: piece,
                last: piece,
            });
            return;
        };
        let group = &mut self.groups[number];
        group.bytes += end - start;
        self.size += end - start;
        if self.pieces[group.last].end == start {
            self.pieces[group.last].end = end;
        } else {
            let piece = self.pieces.len();
            self.pieces.push(Piece {
                start,
                end,
                next: NONE,
            });
            self.pieces[group.last].next = piece;
            group.last = piece;
        }
    }

    /// What a group takes beside its items, at most.
    fn frame_bytes(&self, resource: usize, scope: usize) -> usize {
        2 * HEADER_MAX + self.resources.encoded(resource).bytes.len() + self.scopes[scope].1.len()
    }

    /// Makes room for the headers of the first group.
    fn begin(&mut self, resource: usize, scope: usize) {
        self.buffer
            .reserve_exact(std::mem::take(&mut self.capacity));
        self.room = self.frame_bytes(resource, scope);
        self.buffer.resize(self.room, 0);
    }

    /// Puts the booked items together and starts anew, with an empty buffer.
    fn assemble(&mut self) -> Request {
        let body = match &*self.groups {
            // Not with much more memory than it shows, because it may wait for long.
            [group] if self.buffer.capacity() - self.buffer.len() <= self.buffer.len() / 4 => {
                let mut headers = Vec::with_capacity(self.room);
                self.headers(group, &mut headers);
                let start = self.room - headers.len();
                self.buffer[start..self.room].copy_from_slice(&headers);
                Bytes::from(std::mem::take(&mut self.buffer)).slice(start..)
            }
            groups => {
                let mut out = Vec::with_capacity(self.size);
                for group in groups {
                    self.headers(group, &mut out);
                    let mut next = group.first;
                    while let Some(piece) = self.pieces.get(next) {
                        out.extend_from_slice(&self.buffer[piece.start..piece.end]);
                        next = piece.next;
                    }
                }
                self.buffer.clear();
                Bytes::from(out)
            }
        };
        debug_assert!(body.len() <= self.size, "the size is an upper bound");
        let items = std::mem::take(&mut self.items);
        self.size = 0;
        self.index.clear();
        self.groups.clear();
        self.pieces.clear();
        Request {
            signal: self.signal,
            body,
            items,
        }
    }

    /// All of a group that stands before its items.
    fn headers(&self, group: &Group, out: &mut Vec<u8>) {
        let scope = &self.scopes[group.scope].1;
        let scope_bytes = scope.len() + group.bytes;
        let resource_bytes =
            group.resource.bytes.len() + 1 + wire::varint_len(scope_bytes as u64) + scope_bytes;
        wire::length_header(out, RESOURCE_X, resource_bytes);
        out.extend_from_slice(&group.resource.bytes);
        wire::length_header(out, SCOPE_X, scope_bytes);
        out.extend_from_slice(scope);
    }

    /// Index of a scope by name; encodes it when it is new.
    fn scope(&mut self, name: &'static str) -> usize {
        let found = self
            .scopes
            .iter()
            .position(|(known, _)| std::ptr::eq(*known, name) || *known == name);
        found.unwrap_or_else(|| {
            let mut out = Vec::new();
            wire::message::<1>(&mut out, SCOPE, |out| {
                wire::bytes(out, 1, name.as_bytes());
                wire::bytes(out, 2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            wire::bytes(&mut out, SCHEMA_URL, semconv::SCHEMA_URL.as_bytes());
            self.scopes.push((name, out.into()));
            self.scopes.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::{Resource, Value};
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use proptest::prelude::*;
    use prost::Message as _;

    fn resource(number: usize) -> ResourceRef {
        Arc::new(Resource {
            attributes: vec![(
                "service.name",
                Value::Text(format!("service-{number}").into()),
            )],
            extra: vec![],
        })
    }

    /// (service, scope, event) of each record in a request.
    fn records(request: &Request) -> Vec<(String, String, String)> {
        let decoded = ExportLogsServiceRequest::decode(request.body.clone()).unwrap();
        let mut out = Vec::new();
        for resource_logs in decoded.resource_logs {
            let resource = resource_logs.resource.unwrap();
            let service = format!("{:?}", resource.attributes[0].value.as_ref().unwrap().value);
            for scope_logs in resource_logs.scope_logs {
                assert_eq!(scope_logs.schema_url, semconv::SCHEMA_URL);
                let scope = scope_logs.scope.unwrap();
                assert_eq!(scope.version, env!("CARGO_PKG_VERSION"));
                for record in scope_logs.log_records {
                    out.push((service.clone(), scope.name.clone(), record.event_name));
                }
            }
        }
        out
    }

    #[test]
    fn full_requests_of_one_group_are_not_copied() {
        let resource = resource(0);
        let mut builder = RequestBuilder::new(Signal::Logs, 10_000);
        let mut copied = Vec::new();
        for _ in 0..1000 {
            let buffer = builder.buffer.as_ptr_range();
            let write = |out: &mut Vec<u8>, _: &EncodedResource| wire::bytes(out, 12, &[b'x'; 100]);
            if let Some(request) = builder.add(&resource, SCOPES[0], 1, write) {
                assert_eq!(records(&request).len() as u64, request.items);
                copied.push(!buffer.contains(&request.body.as_ptr()));
            }
        }
        // Of the first one nothing was known.
        assert!(
            copied.len() > 9 && !copied[1..].contains(&true),
            "{copied:?}"
        );
    }

    const SCOPES: [&str; 2] = ["netflume.a", "netflume.b"];

    proptest! {
        #[test]
        fn every_item_arrives_once_in_its_group_and_requests_stay_below_the_limit(
            items in prop::collection::vec((0usize..5, 0usize..2, 0usize..300), 0..200),
            max_bytes in 200usize..5_000,
        ) {
            let resources: Vec<_> = (0..5).map(resource).collect();
            let mut builder = RequestBuilder::new(Signal::Logs, max_bytes);
            let mut requests = Vec::new();
            for (i, (resource, scope, length)) in items.iter().enumerate() {
                let name = format!("{i}-{}", "x".repeat(*length));
                let write = |out: &mut Vec<u8>, _: &EncodedResource| wire::bytes(out, 12, name.as_bytes());
                requests.extend(builder.add(&resources[*resource], SCOPES[*scope], 1, write));
            }
            requests.extend(builder.finish());
            prop_assert_eq!(builder.finish(), None);

            let mut seen = Vec::new();
            for request in &requests {
                let records = records(request);
                prop_assert_eq!(records.len() as u64, request.items);
                prop_assert!(request.body.len() <= max_bytes || records.len() == 1);
                let mut groups: Vec<_> = records.iter().map(|(service, scope, _)| (service, scope)).collect();
                groups.dedup();
                let together = groups.len();
                groups.sort();
                groups.dedup();
                prop_assert_eq!(groups.len(), together, "a group stands in one place");
                seen.extend(records);
            }
            let mut expected: Vec<_> = items.iter().enumerate().map(|(i, (resource, scope, length))| (
                format!("{:?}", Some(opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(format!("service-{resource}")))),
                SCOPES[*scope].to_owned(),
                format!("{i}-{}", "x".repeat(*length)),
            )).collect();
            expected.sort();
            seen.sort();
            prop_assert_eq!(seen, expected);
        }
    }
}
