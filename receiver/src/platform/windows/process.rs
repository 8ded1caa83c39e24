//! What our own process uses.

use std::time::Duration;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessTimes};

/// User and kernel time of all threads.
pub(crate) fn cpu_time() -> Option<Duration> {
    let [mut created, mut exited, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle of the own process is always valid; the pointers are to live values, which the call fills and does not keep.
    let filled = unsafe {
        GetProcessTimes(
            GetCurrentProcess(),
            &raw mut created,
            &raw mut exited,
            &raw mut kernel,
            &raw mut user,
        )
    };
    // Units of 100 ns.
    let ticks =
        |time: FILETIME| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    let total = ticks(kernel).saturating_add(ticks(user));
    (filled != 0).then(|| Duration::from_nanos(total.saturating_mul(100)))
}

/// Resident memory (the working set) in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    let mut counters = PROCESS_MEMORY_COUNTERS::default();
    let size = u32::try_from(size_of::<PROCESS_MEMORY_COUNTERS>()).ok()?;
    // SAFETY: the handle of the own process is always valid; the pointer is to a live value of that size.
    let filled = unsafe { K32GetProcessMemoryInfo(GetCurrentProcess(), &raw mut counters, size) };
    (filled != 0).then_some(counters.WorkingSetSize as u64)
}
