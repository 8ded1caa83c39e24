//! Messages of Cilium's monitor socket (`monitor1_2.sock`, agents 1.14 to 1.20) to events.
//!
//! A connection is a gob stream of `Payload` values ([`Monitor`]); the `Data` of one is an event, whose first byte says which
//! ([`event`]). Datapath events are C structs of the node's byte order, which is little-endian on every platform of Cilium, followed by
//! the head of the packet; events borrow from the message. Access logs and agent notifications are gob streams of their own.
//!
//! | type | module | structure (Cilium `pkg/monitor`, `pkg/proxy/accesslog`) |
//! | --- | --- | --- |
//! | 1 | [`mod@drop`] | `DropNotify` |
//! | 2 | [`debug`] | `DebugMsg` |
//! | 3 | [`capture`] | `DebugCapture` |
//! | 4 | [`trace`] | `TraceNotify` |
//! | 5 | [`policy_verdict`] | `PolicyVerdictNotify` |
//! | 7 | [`trace_sock`] | `TraceSockNotify` |
//! | 129 | [`accesslog`] | `LogRecord` |
//! | 130 | [`agent`] | `AgentNotify` |
//!
//! What our own reader of the socket had to drop comes beside them ([`queue_loss`]).

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

use crate::decode::gob::{self, GobError, Reader, TypeId, Types};
use crate::decode::packet::{PacketError, Start};
use crate::model::flow::message_type;
use crate::model::flow::texts::FileNumbering;

pub mod accesslog;
pub mod agent;
pub mod capture;
pub mod debug;
pub mod drop;
mod nested;
pub mod policy_verdict;
pub mod queue_loss;
pub mod timestamp;
pub mod trace;
pub mod trace_sock;

pub use nested::Definitions;

#[cfg(test)]
pub(crate) mod test_data;

/// How to read what the bytes alone cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// The agent's version, major and minor, when it is known. Default: unknown; then lengths and plausibility decide.
    pub agent: Option<(u16, u16)>,
}

impl Options {
    /// Whether the agent writes the layouts of 1.19; `None`: not known.
    #[must_use]
    pub fn since_1_19(&self) -> Option<bool> {
        self.agent.map(|version| version >= (1, 19))
    }

    /// How the agent numbers its BPF source files; `None`: not known.
    #[must_use]
    pub fn file_numbering(&self) -> Option<FileNumbering> {
        self.agent.map(|version| match version {
            (1, ..=14) => FileNumbering::V0,
            (1, 15..=17) => FileNumbering::V1,
            (1, 18) => FileNumbering::V2,
            _ => FileNumbering::V3,
        })
    }
}

/// Why an event could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// No bytes at all.
    #[error("event without bytes")]
    Empty,
    /// A message type that this project does not know, or one that never becomes an event (0, 6).
    #[error("message type {0} is not known")]
    UnknownType(u8),
    /// The fixed part is cut off.
    #[error("event of type {kind} has {found} bytes, its structure {wanted}")]
    Short {
        /// The message type.
        kind: u8,
        /// Bytes there.
        found: usize,
        /// Bytes needed.
        wanted: usize,
    },
    /// The packet behind the fixed part.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The gob stream inside.
    #[error(transparent)]
    Gob(#[from] GobError),
    /// The JSON of an agent notification, or a field of an access log, makes no sense.
    #[error("{0} makes no sense")]
    Content(&'static str),
}

/// An event; borrows from the message.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// Type 1.
    Drop(drop::Drop<'a>),
    /// Type 2.
    Debug(debug::Debug),
    /// Type 3.
    Capture(capture::Capture<'a>),
    /// Type 4.
    Trace(trace::Trace<'a>),
    /// Type 5.
    PolicyVerdict(policy_verdict::PolicyVerdict<'a>),
    /// Type 7.
    TraceSock(trace_sock::TraceSock),
    /// Type 129.
    AccessLog(Box<accesslog::AccessLog<'a>>),
    /// Type 130.
    Agent(agent::Notification<'a>),
}

/// Reads the `Data` of a payload. `definitions` only saves time: the same bytes are the same event, whatever was read before.
///
/// # Errors
/// What is wrong with it; the stream goes on.
pub fn event<'a>(
    data: &'a [u8],
    options: &Options,
    definitions: &mut Definitions,
) -> Result<Event<'a>, EventError> {
    let kind = *data.first().ok_or(EventError::Empty)?;
    match kind {
        message_type::DROP => drop::decode(data, options).map(Event::Drop),
        message_type::DEBUG => debug::decode(data).map(Event::Debug),
        message_type::CAPTURE => capture::decode(data).map(Event::Capture),
        message_type::TRACE => trace::decode(data).map(Event::Trace),
        message_type::POLICY_VERDICT => {
            policy_verdict::decode(data, options).map(Event::PolicyVerdict)
        }
        message_type::TRACE_SOCK => trace_sock::decode(data, options).map(Event::TraceSock),
        message_type::ACCESS_LOG => {
            accesslog::decode(data, definitions).map(|log| Event::AccessLog(Box::new(log)))
        }
        message_type::AGENT => agent::decode(data, definitions).map(Event::Agent),
        other => Err(EventError::UnknownType(other)),
    }
}

/// One value of the monitor socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// An event (`Type` 9) and the CPU whose perf ring it came from; 0 for agent events.
    Sample {
        /// What [`event`] reads.
        data: &'a [u8],
        /// CPU number.
        cpu: i32,
    },
    /// Samples were lost in the perf ring of a CPU (`Type` 2).
    Lost {
        /// How many.
        count: u64,
        /// CPU number.
        cpu: i32,
    },
    /// Another `Type`: to be counted and left.
    Unknown(i64),
    /// A value that does not follow its type, and why: to be counted and left. The message around it is whole, so the stream goes on.
    Malformed(GobError),
}

const RECORD_LOST: i64 = 2;
const EVENT_SAMPLE: i64 = 9;

/// Which field of `Payload` a position is.
#[derive(Clone, Copy, Debug)]
enum Field {
    Data,
    Cpu,
    Lost,
    Kind,
    Other(TypeId),
}

/// Reads the payloads of one connection. A new connection may follow without notice: its definitions replace the old ones.
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    types: Types,
    /// The type of the last value, with its fields in order.
    payload: Option<(TypeId, Vec<Field>)>,
}

impl Monitor {
    /// Reads the first message of `stream`, which must be complete. `None`: it was a type definition.
    /// Gives what follows the message as well.
    ///
    /// # Errors
    /// What is wrong with the frame, with a type definition, or with the type of a value. A connection cannot go on after an error: what
    /// was not defined never will be. Whole messages may be stepped over by [`gob::frame`].
    #[inline]
    pub fn next<'a>(
        &mut self,
        stream: &'a [u8],
    ) -> Result<(Option<Payload<'a>>, &'a [u8]), GobError> {
        let (content, rest) = gob::frame(stream)?.ok_or(GobError::Truncated)?;
        let Some((id, mut reader)) = self.types.message(content)? else {
            self.payload = None;
            return Ok((None, rest));
        };
        let fields = match &self.payload {
            Some((known, fields)) if *known == id => fields,
            _ => {
                &self
                    .payload
                    .insert((id, payload_fields(&self.types, id)?))
                    .1
            }
        };
        let payload = read_payload(&self.types, fields, &mut reader);
        Ok((Some(payload.unwrap_or_else(Payload::Malformed)), rest))
    }
}

/// How many values are lost with bytes that cannot be read on, at least one: whole messages other than type definitions, and what is
/// left behind the last whole one.
#[must_use]
pub fn values_lost(stream: &[u8]) -> u64 {
    let (mut rest, mut lost) = (stream, 0_u64);
    while let Ok(Some((content, after))) = gob::frame(rest) {
        let is_definition = Reader::new(content).int().is_ok_and(|id| id < 0);
        lost = lost.saturating_add(u64::from(!is_definition));
        rest = after;
    }
    lost.saturating_add(u64::from(!rest.is_empty())).max(1)
}

fn payload_fields(types: &Types, id: TypeId) -> Result<Vec<Field>, GobError> {
    let wanted = |name: &str, id: TypeId| match (name, id) {
        ("Data", gob::builtin::BYTES) => Ok(Field::Data),
        ("CPU", gob::builtin::INT) => Ok(Field::Cpu),
        ("Lost", gob::builtin::UINT) => Ok(Field::Lost),
        ("Type", gob::builtin::INT) => Ok(Field::Kind),
        ("Data" | "CPU" | "Lost" | "Type", _) => Err(GobError::UnexpectedType),
        _ => Ok(Field::Other(id)),
    };
    types
        .fields(id)?
        .iter()
        .map(|(name, id)| wanted(name, *id))
        .collect()
}

#[inline]
fn read_payload<'a>(
    types: &Types,
    fields: &[Field],
    reader: &mut Reader<'a>,
) -> Result<Payload<'a>, GobError> {
    let (mut data, mut cpu, mut lost, mut kind) = (&[][..], 0, 0, 0);
    let mut index = None;
    while let Some(at) = reader.field(index)? {
        match fields.get(at).ok_or(GobError::UnexpectedType)? {
            Field::Data => data = reader.bytes()?,
            Field::Cpu => cpu = i32::try_from(reader.int()?).map_err(|_| GobError::Number)?,
            Field::Lost => lost = reader.uint()?,
            Field::Kind => kind = reader.int()?,
            Field::Other(id) => types.skip(*id, reader)?,
        }
        index = Some(at);
    }
    Ok(match kind {
        EVENT_SAMPLE => Payload::Sample { data, cpu },
        RECORD_LOST => Payload::Lost { count: lost, cpu },
        other => Payload::Unknown(other),
    })
}

/// The capture header that starts messages 1, 3, 4 and 5 (16 bytes; `struct notify_capture_hdr` of Cilium's `bpf/lib/common.h`).
#[derive(
    Clone,
    Copy,
    Debug,
    zerocopy::FromBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub(crate) struct CaptureHeader {
    pub(crate) kind: u8,
    pub(crate) sub_type: u8,
    /// Id of the local endpoint whose program emitted the event; 0: none.
    pub(crate) source: zerocopy::little_endian::U16,
    pub(crate) hash: zerocopy::little_endian::U32,
    pub(crate) original_length: zerocopy::little_endian::U32,
    pub(crate) captured_length: zerocopy::little_endian::U16,
    /// Until 1.18 the low byte of a 16-bit field.
    pub(crate) version: u8,
    /// Since 1.19; zero upstream, other values are of downstream forks.
    pub(crate) extension: u8,
}

impl CaptureHeader {
    /// The packet behind a header of `header` bytes, without the padding of the perf ring.
    ///
    /// `known` says that version and extension are ones whose header length is known; else the packet is found from the end: the
    /// structures of newer versions are multiples of eight, and padding is at most seven bytes.
    fn packet<'a>(&self, data: &'a [u8], header: usize, known: bool) -> &'a [u8] {
        let captured = usize::from(self.captured_length.get());
        let header = if known && self.extension == 0 {
            header
        } else {
            match data.len().checked_sub(captured) {
                Some(room) if captured > 0 && room >= header => room & !7,
                _ => return &[],
            }
        };
        let packet = data.get(header..).unwrap_or_default();
        match captured {
            // Nothing but padding.
            0 if packet.len() < 8 => &[],
            // Quirk: Hubble decodes everything behind the header. So do we when the length was not filled in.
            0 => packet,
            _ => packet.get(..captured).unwrap_or(packet),
        }
    }
}

/// The flags byte of drop (version 2 and later) and trace events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// An IPv6 packet.
    #[must_use]
    pub const fn ipv6(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// Where the packet starts: layer-3 devices have no Ethernet header (since 1.18).
    #[must_use]
    pub const fn start(self) -> Start {
        start(self.0 & 0x02 != 0, self.ipv6())
    }

    /// The tunnel whose header is the payload of the outer UDP header (since 1.18).
    #[must_use]
    pub const fn overlay(self) -> Option<crate::model::flow::TunnelProtocol> {
        use crate::model::flow::TunnelProtocol;
        match self.0 & 0x0c {
            0 => None,
            // VXLAN is looked at first when both are set.
            0x08 => Some(TunnelProtocol::GENEVE),
            _ => Some(TunnelProtocol::VXLAN),
        }
    }
}

const fn start(layer3_device: bool, ipv6: bool) -> Start {
    match (layer3_device, ipv6) {
        (false, _) => Start::Ethernet,
        (true, false) => Start::Ipv4,
        (true, true) => Start::Ipv6,
    }
}

/// The fixed part at the front of `data`.
fn fixed<
    T: zerocopy::FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
>(
    data: &[u8],
) -> Result<&T, EventError> {
    T::ref_from_prefix(data)
        .map(|(fixed, _)| fixed)
        .map_err(|_| EventError::Short {
            kind: data.first().copied().unwrap_or_default(),
            found: data.len(),
            wanted: size_of::<T>(),
        })
}

#[cfg(test)]
mod tests;
