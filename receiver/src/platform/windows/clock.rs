//! The two clocks of a batch.

use std::time::SystemTime;

use netflume_core::model::batch::Now;
use windows_sys::Win32::System::WindowsProgramming::QueryInterruptTimePrecise;

/// Wall clock (nanoseconds since 1970) and interrupt time (nanoseconds since boot, suspend included), read one after the other.
pub(crate) fn now() -> Now {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut ticks = 0;
    // SAFETY: the pointer is to a live value of the right type, which the call fills and does not keep.
    unsafe { QueryInterruptTimePrecise(&raw mut ticks) };
    Now {
        unix_ns: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
        // Units of 100 ns.
        boot_ns: ticks.saturating_mul(100),
    }
}
