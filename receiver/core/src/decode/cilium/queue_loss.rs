//! Messages that we read and had to drop, because those before them were not decoded yet: what their reader hands to the decoder.
//!
//! | bytes | field |
//! | --- | --- |
//! | 8 | number of messages |
//! | 8 | when the first was dropped, nanoseconds since 1970 |
//! | 8 | when the last was dropped, nanoseconds since 1970 |
//!
//! All integers are little-endian.

use zerocopy::IntoBytes as _;
use zerocopy::little_endian::U64;

use crate::decode::cilium::{EventError, fixed};
use crate::model::cilium::LostEvent;
use crate::model::flow::LostEventSource;

#[derive(
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
struct Layout {
    count: U64,
    first_ns: U64,
    last_ns: U64,
}

/// `count` messages that were dropped between these moments, nanoseconds since 1970.
#[must_use]
pub fn encode(count: u64, first_ns: u64, last_ns: u64) -> Vec<u8> {
    let layout = Layout {
        count: count.into(),
        first_ns: first_ns.into(),
        last_ns: last_ns.into(),
    };
    layout.as_bytes().to_vec()
}

/// The loss as Hubble reports one of its own queue. `unix_ns`: when it was handed over.
///
/// # Errors
/// [`EventError::Short`].
pub fn decode(data: &[u8], unix_ns: u64) -> Result<LostEvent, EventError> {
    let layout: &Layout = fixed(data)?;
    Ok(LostEvent {
        time_ns: unix_ns,
        source: LostEventSource::OBSERVER_EVENTS_QUEUE,
        count: layout.count.get(),
        // Hubble sets it to zero for losses of its queue.
        cpu: Some(0),
        range_ns: Some((layout.first_ns.get(), layout.last_ns.get())),
    })
}

#[test]
fn a_loss_is_read_as_it_was_written_and_a_short_one_is_refused() {
    let bytes = encode(5, 10, 20);
    let lost = decode(&bytes, 30).unwrap();
    assert_eq!(
        (lost.count, lost.range_ns, lost.time_ns),
        (5, Some((10, 20)), 30)
    );
    assert_eq!(lost.source, LostEventSource::OBSERVER_EVENTS_QUEUE);
    assert!(decode(bytes.get(1..).unwrap(), 30).is_err());
}
