//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a test waits for something that must happen soon: long enough for a busy machine, longer where the machine is emulated.
#[must_use]
pub fn patience() -> Duration {
    let emulated = std::env::var_os("NETFLUME_EMULATED").is_some();
    Duration::from_secs(if emulated { 120 } else { 30 })
}

/// Asks `condition` until it gives something.
///
/// # Errors
/// It gave nothing within [`patience`]; the error names `what`.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> Result<T> {
    until_within(patience(), what, condition)
}

/// [`until`] with a time of its own.
///
/// # Errors
/// As for [`until`].
pub fn until_within<T>(
    time: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {} s in vain: {what}", time.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks `condition` until it gives something, for as long as the progress that it reports beside it goes on: a slow machine is no
/// failure, one that stands still is.
///
/// # Errors
/// It gave nothing, and no other progress than before, within [`patience`]; the error names `what` and how far it came.
pub fn while_moving<T>(what: &str, mut condition: impl FnMut() -> (u64, Option<T>)) -> Result<T> {
    let (mut reached, mut end) = (None, Instant::now() + patience());
    loop {
        let (progress, value) = condition();
        if let Some(value) = value {
            return Ok(value);
        }
        let now = Instant::now();
        if reached != Some(progress) {
            (reached, end) = (Some(progress), now + patience());
        } else if now >= end {
            bail!("stands still at {progress}: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
