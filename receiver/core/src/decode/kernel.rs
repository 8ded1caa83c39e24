//! Bytes of our kernel programs ([`netflume_ebpf`]) to [`KernelEvent`]s.
//!
//! Total: any bytes give events or a count of what made no sense. A record may be longer than this version knows; what is
//! beyond is skipped.

use netflume_ebpf::{
    ConnectionRecord, Header, ListenerRecord, MAX_RECORD_BYTES, OverflowRecord, OwnerRecord, kind,
    phase, role, transport,
};
use thiserror::Error;
use zerocopy::{FromBytes, IntoBytes};

use crate::model::netflow::{
    ConnectError, ConnectionState, Endpoint, KernelEvent, Listener, Overflow, Owner, Phase, Role,
    Transport,
};

/// Why a record is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Its length is not one that a record can have, or goes beyond the end; what follows is looked for.
    #[error("record of impossible length {length}, {skipped} bytes skipped")]
    Length {
        /// What the header has.
        length: u16,
        /// Bytes to the next header that can be one, or to the end.
        skipped: usize,
    },
    /// Shorter than its kind needs.
    #[error("record of kind {kind} has only {size} bytes")]
    Short {
        /// What the header has.
        kind: u16,
        /// What the header has.
        size: u16,
    },
    /// A kind that this version does not know.
    #[error("unknown kind {0}")]
    Kind(u16),
    /// A field holds a value that it cannot have.
    #[error("field {0} holds {1}")]
    Value(&'static str, u8),
}

/// One record, still as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is.
    pub kind: u16,
    /// When the kernel made it, nanoseconds since boot.
    pub boot_ns: u64,
    /// All of it, header included.
    pub bytes: &'a [u8],
}

/// A listener as the first version recorded it.
const LISTENER_MIN_BYTES: usize = std::mem::offset_of!(ListenerRecord, id);

/// Splits a batch into records; stops at the first whose length makes no sense.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || split(&mut rest).and_then(Result::ok))
}

impl DecodeError {
    /// Records that are lost with it: in bytes without a header, as many of the commonest kind as they may have held.
    #[must_use]
    pub fn records(&self) -> u64 {
        match self {
            Self::Length { skipped, .. } => skipped.div_ceil(size_of::<ConnectionRecord>()) as u64,
            Self::Short { .. } | Self::Kind(_) | Self::Value(..) => 1,
        }
    }
}

/// Decodes a batch: each record is handed to `sink`, as event or as error. Returns how many records there were, those that an error
/// stands for included.
pub fn decode(bytes: &[u8], mut sink: impl FnMut(Result<KernelEvent, DecodeError>)) -> u64 {
    let mut rest = bytes;
    let mut count = 0;
    while let Some(record) = split(&mut rest) {
        let record = record.and_then(event);
        count += record.as_ref().err().map_or(1, DecodeError::records);
        sink(record);
    }
    count
}

/// Takes the next record off `rest`, or what stands before the next one.
fn split<'a>(rest: &mut &'a [u8]) -> Option<Result<Record<'a>, DecodeError>> {
    if rest.is_empty() {
        return None;
    }
    let all = std::mem::take(rest);
    let length = all
        .first_chunk()
        .map_or(0, |size| u16::from_ne_bytes(*size));
    if let Some((header, bytes, after)) = header(all) {
        *rest = after;
        return Some(Ok(Record {
            kind: header.kind,
            boot_ns: header.boot_ns,
            bytes,
        }));
    }
    // Records begin at multiples of eight.
    let next = (8..all.len()).step_by(8).find(|at| {
        let record = all.get(*at..).and_then(header);
        record.is_some_and(|(header, ..)| is_known(&header))
    });
    let skipped = next.unwrap_or(all.len());
    *rest = all.get(skipped..).unwrap_or_default();
    Some(Err(DecodeError::Length { length, skipped }))
}

/// The header at the start of `bytes`, its record, and what follows; none if that cannot be one.
fn header(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let (header, _) = Header::read_from_prefix(bytes).ok()?;
    let size = usize::from(header.size);
    let possible = size >= size_of::<Header>() && size % 8 == 0 && size <= MAX_RECORD_BYTES;
    let (record, after) = bytes.split_at_checked(size).filter(|_| possible)?;
    Some((header, record, after))
}

/// Whether a header is one that our programs write: stricter than what is accepted where a record must begin.
fn is_known(header: &Header) -> bool {
    let least = match header.kind {
        kind::CONNECTION => size_of::<ConnectionRecord>(),
        kind::LISTENER => size_of::<ListenerRecord>(),
        _ => return false,
    };
    header.reserved == 0 && header.boot_ns != 0 && usize::from(header.size) >= least
}

fn event(record: Record<'_>) -> Result<KernelEvent, DecodeError> {
    match record.kind {
        kind::CONNECTION => {
            let whole = size_of::<ConnectionRecord>();
            connection(&read(record, whole)?).map(KernelEvent::Connection)
        }
        kind::LISTENER => listener(&read(record, LISTENER_MIN_BYTES)?).map(KernelEvent::Listener),
        kind::OVERFLOW => {
            let whole = size_of::<OverflowRecord>();
            overflow(&read(record, whole)?).map(KernelEvent::Overflow)
        }
        other => Err(DecodeError::Kind(other)),
    }
}

/// The layout at the start of a record of at least `min` bytes; what an earlier version did not have is zero.
fn read<T: FromBytes + IntoBytes>(record: Record<'_>, min: usize) -> Result<T, DecodeError> {
    if record.bytes.len() < min {
        return Err(DecodeError::Short {
            kind: record.kind,
            size: u16::try_from(record.bytes.len()).unwrap_or(u16::MAX),
        });
    }
    let mut value = T::new_zeroed();
    let known = record.bytes.len().min(size_of::<T>());
    value.as_mut_bytes()[..known].copy_from_slice(&record.bytes[..known]);
    Ok(value)
}

fn connection(record: &ConnectionRecord) -> Result<ConnectionState, DecodeError> {
    Ok(ConnectionState {
        id: record.id,
        boot_time_ns: record.header.boot_ns,
        opened_boot_time_ns: record.opened_boot_ns,
        transport: transport_of(record.transport)?,
        phase: match record.phase {
            phase::OPEN => Phase::Open,
            phase::CLOSED => Phase::Closed,
            phase::FAILED => Phase::Failed,
            other => return Err(DecodeError::Value("phase", other)),
        },
        role: match record.role {
            role::UNKNOWN => Role::Unknown,
            role::CLIENT => Role::Client,
            role::SERVER => Role::Server,
            other => return Err(DecodeError::Value("role", other)),
        },
        local: Endpoint {
            address: record.local_address,
            port: record.local_port,
        },
        peer: Endpoint {
            address: record.peer_address,
            port: record.peer_port,
        },
        netns: record.netns,
        owner: owner(&record.owner),
        bytes_sent: record.bytes_sent,
        bytes_received: record.bytes_received,
        packets_sent: record.packets_sent,
        packets_received: record.packets_received,
        retransmits: record.retransmits,
        rtt_us: record.rtt_us,
        rtt_var_us: record.rtt_var_us,
        error: connect_error(record.error),
        acceptor: record.acceptor,
        part: record.part != 0,
    })
}

fn listener(record: &ListenerRecord) -> Result<Listener, DecodeError> {
    Ok(Listener {
        id: record.id,
        transport: transport_of(record.transport)?,
        netns: record.netns,
        local: Endpoint {
            address: record.local_address,
            port: record.local_port,
        },
        owner: owner(&record.owner),
        credentials: record.credentials,
        listening: record.listening != 0,
    })
}

fn overflow(record: &OverflowRecord) -> Result<Overflow, DecodeError> {
    Ok(Overflow {
        transport: transport_of(record.transport)?,
        bytes_sent: record.bytes_sent,
        bytes_received: record.bytes_received,
        packets_sent: record.packets_sent,
        packets_received: record.packets_received,
    })
}

fn owner(record: &OwnerRecord) -> Owner {
    Owner {
        pid: record.pid,
        uid: record.uid,
        cgroup_id: record.cgroup_id,
        comm: name(record.comm),
    }
}

/// The name alone: kernels before 5.17 leave the rest of a longer earlier one behind its end.
fn name(mut comm: [u8; 16]) -> [u8; 16] {
    let letters = comm.iter().take_while(|byte| **byte != 0).count();
    comm[letters..].fill(0);
    comm
}

fn transport_of(number: u8) -> Result<Transport, DecodeError> {
    match number {
        transport::TCP => Ok(Transport::Tcp),
        transport::UDP => Ok(Transport::Udp),
        other => Err(DecodeError::Value("transport", other)),
    }
}

/// errno numbers as on every Linux architecture that has BPF (include/uapi/asm-generic/errno.h; MIPS and SPARC differ and are not
/// supported).
fn connect_error(errno: u16) -> Option<ConnectError> {
    match errno {
        0 => None,
        1 | 13 => Some(ConnectError::Prohibited),
        22 => Some(ConnectError::Blackhole),
        32 | 104 => Some(ConnectError::Reset),
        99 => Some(ConnectError::AddressNotAvailable),
        101 | 113 => Some(ConnectError::Unreachable),
        110 => Some(ConnectError::TimedOut),
        111 => Some(ConnectError::Refused),
        _ => Some(ConnectError::Other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn sample() -> ConnectionRecord {
        let mut local_address = [0; 16];
        local_address[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        ConnectionRecord {
            header: Header {
                size: u16::try_from(size_of::<ConnectionRecord>()).unwrap(),
                kind: kind::CONNECTION,
                reserved: 0,
                boot_ns: 77,
            },
            id: 1,
            local_address,
            peer_address: local_address,
            local_port: 4000,
            peer_port: 80,
            bytes_sent: 5,
            bytes_received: 6,
            error: 111,
            phase: phase::FAILED,
            role: role::CLIENT,
            transport: transport::TCP,
            ..Default::default()
        }
    }

    fn all(bytes: &[u8]) -> Vec<Result<KernelEvent, DecodeError>> {
        let mut events = Vec::new();
        let count = decode(bytes, |event| events.push(event));
        let records =
            |event: &Result<_, DecodeError>| event.as_ref().err().map_or(1, DecodeError::records);
        assert_eq!(count, events.iter().map(records).sum::<u64>());
        events
    }

    #[test]
    fn what_an_earlier_name_left_is_no_part_of_the_name() {
        assert_eq!(
            name(*b"sleep\0::connect\0"),
            *b"sleep\0\0\0\0\0\0\0\0\0\0\0"
        );
        assert_eq!(name(*b"sixteen-letters!"), *b"sixteen-letters!");
    }

    #[test]
    fn a_connection_keeps_every_field() {
        let events = all(sample().as_bytes());
        let [Ok(KernelEvent::Connection(state))] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!(state.boot_time_ns, 77);
        assert_eq!(format!("{:?}", state.local), "127.0.0.1:4000");
        assert_eq!((state.bytes_sent, state.bytes_received), (5, 6));
        assert_eq!(
            (state.phase, state.role, state.error),
            (Phase::Failed, Role::Client, Some(ConnectError::Refused))
        );
    }

    #[test]
    fn an_overflow_keeps_every_field() {
        let record = OverflowRecord {
            header: Header {
                size: u16::try_from(size_of::<OverflowRecord>()).unwrap(),
                kind: kind::OVERFLOW,
                ..Header::default()
            },
            bytes_sent: 1,
            bytes_received: 2,
            packets_sent: 3,
            packets_received: 4,
            transport: transport::UDP,
            reserved: [0; 7],
        };
        let expected = Overflow {
            transport: Transport::Udp,
            bytes_sent: 1,
            bytes_received: 2,
            packets_sent: 3,
            packets_received: 4,
        };
        assert_eq!(
            all(record.as_bytes()),
            [Ok(KernelEvent::Overflow(expected))]
        );
    }

    #[test]
    fn every_prefix_of_a_record_is_an_error() {
        let record = sample();
        let bytes = record.as_bytes();
        for end in 1..bytes.len() {
            let events = all(&bytes[..end]);
            assert!(
                matches!(events.as_slice(), [Err(DecodeError::Length { .. })]),
                "{end}: {events:?}"
            );
        }
        // A shorter record that says so is an error of its own; the next one is read.
        let mut short = record;
        short.header.size = 64;
        let two = [&short.as_bytes()[..64], bytes].concat();
        let events = all(&two);
        assert!(
            matches!(events.as_slice(), [Err(DecodeError::Short { .. }), Ok(_)]),
            "{events:?}"
        );
    }

    #[test]
    fn what_stands_behind_a_damaged_header_is_found_and_what_is_lost_is_counted() {
        let record = sample();
        for damaged in [1, 2, 5] {
            let mut bytes = vec![record.as_bytes(); damaged + 3].concat();
            for n in 1..=damaged {
                let at = n * size_of::<ConnectionRecord>();
                bytes[at..at + 2].copy_from_slice(&0xffff_u16.to_ne_bytes());
            }
            let mut events = Vec::new();
            let count = decode(&bytes, |event| events.push(event));
            assert_eq!(count, damaged as u64 + 3);
            let [Ok(_), Err(error), Ok(_), Ok(_)] = events.as_slice() else {
                panic!("{events:?}");
            };
            assert_eq!(error.records(), damaged as u64);
        }
    }

    #[test]
    fn a_longer_record_of_a_later_version_is_read_as_far_as_it_is_known() {
        let mut record = sample();
        record.header.size += 16;
        let mut bytes = record.as_bytes().to_vec();
        bytes.extend([0xee; 16]);
        bytes.extend_from_slice(sample().as_bytes());
        assert!(matches!(all(&bytes).as_slice(), [Ok(_), Ok(_)]));
    }

    #[test]
    fn a_listener_of_an_earlier_version_is_read() {
        let listener = ListenerRecord {
            header: Header {
                size: 72,
                kind: kind::LISTENER,
                ..Header::default()
            },
            local_port: 80,
            transport: transport::TCP,
            listening: 1,
            ..ListenerRecord::default()
        };
        let old = &listener.as_bytes()[..72];
        let events = all(&[old, sample().as_bytes()].concat());
        let [Ok(KernelEvent::Listener(listener)), Ok(_)] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!(
            (listener.local.port, listener.id, listener.credentials),
            (80, 0, 0)
        );
    }

    #[test]
    fn values_out_of_range_are_named() {
        let mut record = sample();
        record.phase = 9;
        assert_eq!(
            all(record.as_bytes()),
            [Err(DecodeError::Value("phase", 9))]
        );
        record.header.kind = 4711;
        assert_eq!(all(record.as_bytes()), [Err(DecodeError::Kind(4711))]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            decode(&bytes, |_| {});
            prop_assert!(records(&bytes).map(|r| r.bytes.len()).sum::<usize>() <= bytes.len());
        }

        #[test]
        fn changed_records_never_panic(at in 0_usize..176, value in any::<u8>()) {
            let mut bytes = [sample().as_bytes(), sample().as_bytes()].concat();
            bytes[at] = value;
            decode(&bytes, |_| {});
        }
    }
}
