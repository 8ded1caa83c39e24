//! The two clocks of a batch.

use netflume_core::model::batch::Now;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Wall clock (nanoseconds since 1970) and CLOCK_BOOTTIME (nanoseconds), read one after the other.
pub(crate) fn now() -> Now {
    Now {
        unix_ns: nanoseconds(clock_gettime(ClockId::Realtime)),
        boot_ns: nanoseconds(clock_gettime(ClockId::Boottime)),
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
