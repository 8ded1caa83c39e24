//! What our own process uses.

use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};

/// User and system time of all threads: fields 14 and 15 of `/proc/self/stat` (proc_pid_stat(5)), in clock ticks.
pub(crate) fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold blanks; fields are counted after its end, which is field 2.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let nanoseconds = 1_000_000_000 / clock_ticks_per_second();
    Some(Duration::from_nanos(
        (user + system).saturating_mul(nanoseconds),
    ))
}

/// Resident memory in bytes: field 2 of `/proc/self/statm` (proc_pid_statm(5)), in pages.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}
