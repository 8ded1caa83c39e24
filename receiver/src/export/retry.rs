//! When to try again: what an answer means (OTLP 1.11, "OTLP/gRPC response"), and how long to wait (the Collector's
//! `retry_on_failure`). Pure: time and chance are arguments.

use std::time::Duration;

use tonic::Code;

use crate::export::options::RetryOptions;

/// What to do with a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it again; not sooner than the receiver asked for, if it did.
    Retry(Option<Duration>),
    /// It is too large for the receiver: send its halves.
    Split,
    /// Sending it again would be refused again.
    Reject,
}

/// What an answer means. `retry_delay` is the delay of its RetryInfo, if it had one.
#[must_use]
pub fn judge(code: Code, message: &str, retry_delay: Option<Duration>) -> Verdict {
    if is_about_size(code, message) {
        return Verdict::Split;
    }
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Verdict::Retry(retry_delay),
        // Only the receiver knows whether it will recover.
        Code::ResourceExhausted if retry_delay.is_some() => Verdict::Retry(retry_delay),
        _ => Verdict::Reject,
    }
}

/// Whether the receiver says that the message is too large. gRPC has no code for that: the libraries answer
/// RESOURCE_EXHAUSTED (Go: "received message larger than max", Java: "exceeds maximum size", C++: "Received message larger
/// than max", tonic: "size limit, of 4194304 bytes, exceeded while decompressing"), or, tonic again, OUT_OF_RANGE ("message
/// length too large").
fn is_about_size(code: Code, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let says = |text: &str| message.contains(text);
    match code {
        Code::ResourceExhausted => [
            "larger than max",
            "exceeds maximum size",
            "too large",
            "size limit",
        ]
        .into_iter()
        .any(says),
        Code::OutOfRange => says("length too large"),
        _ => false,
    }
}

/// The waits of one request.
#[derive(Clone, Debug)]
pub struct Backoff {
    options: RetryOptions,
    interval: Duration,
}

impl Backoff {
    /// Before the first retry.
    #[must_use]
    pub fn new(options: &RetryOptions) -> Self {
        Self {
            interval: options.initial_interval,
            options: options.clone(),
        }
    }

    /// How long to wait before the next attempt, or none when the request's time is over.
    ///
    /// `elapsed` is the time since the request's first attempt, `throttle` what the receiver asked for, `chance` a random number
    /// from 0 to 1.
    pub fn next(
        &mut self,
        elapsed: Duration,
        throttle: Option<Duration>,
        chance: f64,
    ) -> Option<Duration> {
        let options = &self.options;
        if !options.enabled {
            return None;
        }
        let spread = options.randomization_factor.clamp(0.0, 1.0);
        let wait = match throttle {
            // At least what was asked for; what comes later grows from there.
            Some(asked) if asked >= self.interval => {
                self.interval = asked;
                asked.saturating_add(scaled(options.initial_interval, spread * chance))
            }
            _ => scaled(self.interval, 1.0 - spread + 2.0 * spread * chance)
                .max(throttle.unwrap_or_default()),
        };
        self.interval = scaled(self.interval, options.multiplier.max(1.0))
            .min(options.max_interval.max(self.interval));
        let over = !options.max_elapsed_time.is_zero()
            && elapsed.saturating_add(wait) > options.max_elapsed_time;
        (!over).then_some(wait)
    }
}

/// A senseless factor leaves the interval; a product that is too large is the largest.
fn scaled(interval: Duration, factor: f64) -> Duration {
    let factor = if factor.is_finite() {
        factor.clamp(0.0, 1000.0)
    } else {
        1.0
    };
    Duration::try_from_secs_f64(interval.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// A random number from 0 to 1, for [`Backoff::next`].
#[must_use]
pub fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds its hashers from the system's randomness; jitter needs no more.
    let bits = std::hash::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Option<Duration> = Some(Duration::from_secs(7));

    #[test]
    fn each_code_has_the_verdict_of_the_specification() {
        for code in 1..=16 {
            let code = Code::from_i32(code);
            let retryable = matches!(
                code,
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
            );
            let expected = if retryable {
                Verdict::Retry(None)
            } else {
                Verdict::Reject
            };
            assert_eq!(judge(code, "", None), expected, "{code:?}");
        }
    }

    #[test]
    fn resource_exhausted_is_retried_only_with_retry_info() {
        assert_eq!(
            judge(Code::ResourceExhausted, "quota", ASKED),
            Verdict::Retry(ASKED)
        );
        assert_eq!(
            judge(Code::ResourceExhausted, "quota", None),
            Verdict::Reject
        );
        assert_eq!(judge(Code::InvalidArgument, "", ASKED), Verdict::Reject);
    }

    #[test]
    fn too_large_a_message_is_split_whatever_library_says_so() {
        for (code, message) in [
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (5900000 vs. 4194304)",
            ),
            (
                Code::ResourceExhausted,
                "grpc: received message after decompression larger than max 4194304",
            ),
            (
                Code::ResourceExhausted,
                "gRPC message exceeds maximum size 4194304: 5900000",
            ),
            (
                Code::ResourceExhausted,
                "Error decompressing: size limit, of 4194304 bytes, exceeded while decompressing message",
            ),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5900000 bytes, the limit is: 4194304 bytes",
            ),
        ] {
            assert_eq!(judge(code, message, None), Verdict::Split, "{message}");
        }
        assert_eq!(
            judge(Code::OutOfRange, "cursor", None),
            Verdict::Retry(None)
        );
    }

    fn waits(options: &RetryOptions, throttle: Option<Duration>, chance: f64) -> Vec<f64> {
        let mut backoff = Backoff::new(options);
        let mut elapsed = Duration::ZERO;
        let mut waits = Vec::new();
        while let Some(wait) = backoff.next(elapsed, throttle, chance) {
            elapsed += wait;
            waits.push(wait.as_secs_f64());
            assert!(waits.len() < 1000);
        }
        waits
    }

    #[test]
    fn waits_grow_to_the_maximum_and_end() {
        let waits = waits(&RetryOptions::default(), None, 0.5);
        assert_eq!(&waits[..6], [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0]);
        assert!(waits.iter().sum::<f64>() <= 300.0);
        assert!(waits.iter().sum::<f64>() > 270.0);
    }

    #[test]
    fn chance_varies_a_wait_by_the_factor() {
        let options = RetryOptions::default();
        assert_eq!(waits(&options, None, 0.0)[0], 2.5);
        assert_eq!(waits(&options, None, 1.0)[0], 7.5);
        let chances: Vec<_> = (0..100).map(|_| chance()).collect();
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert!(chances.iter().any(|chance| *chance != chances[0]));
    }

    #[test]
    fn what_the_receiver_asks_for_is_the_least_and_later_waits_grow_from_it() {
        let options = RetryOptions::default();
        let mut backoff = Backoff::new(&options);
        let wait = backoff
            .next(Duration::ZERO, Some(Duration::from_secs(12)), 0.0)
            .unwrap();
        assert_eq!(wait, Duration::from_secs(12));
        let wait = backoff.next(Duration::ZERO, None, 0.5).unwrap();
        assert_eq!(wait, Duration::from_secs(18));
        for chance in [0.0, 0.5, 1.0] {
            let mut backoff = Backoff::new(&options);
            assert!(
                backoff
                    .next(Duration::ZERO, Some(Duration::from_secs(4)), chance)
                    .unwrap()
                    >= Duration::from_secs(4)
            );
        }
    }

    #[test]
    fn a_wait_that_ends_after_the_time_allowed_is_not_begun() {
        let mut backoff = Backoff::new(&RetryOptions::default());
        assert_eq!(backoff.next(Duration::from_secs(296), None, 0.5), None);
        let mut backoff = Backoff::new(&RetryOptions::default());
        assert_eq!(
            backoff.next(Duration::ZERO, Some(Duration::from_secs(3600)), 0.5),
            None
        );
    }

    #[test]
    fn zero_means_for_ever_and_off_means_never() {
        let for_ever = RetryOptions {
            max_elapsed_time: Duration::ZERO,
            ..RetryOptions::default()
        };
        let mut backoff = Backoff::new(&for_ever);
        let month = Duration::from_secs(30 * 24 * 3600);
        assert_eq!(backoff.next(month, None, 0.5), Some(Duration::from_secs(5)));
        let off = RetryOptions {
            enabled: false,
            ..RetryOptions::default()
        };
        assert_eq!(Backoff::new(&off).next(Duration::ZERO, None, 0.5), None);
    }

    #[test]
    fn senseless_numbers_do_not_panic() {
        let options = RetryOptions {
            multiplier: f64::NAN,
            randomization_factor: f64::INFINITY,
            initial_interval: Duration::MAX,
            max_interval: Duration::MAX,
            max_elapsed_time: Duration::ZERO,
            enabled: true,
        };
        let mut backoff = Backoff::new(&options);
        for _ in 0..5 {
            assert!(backoff.next(Duration::MAX, ASKED, 0.5).is_some());
        }
    }
}
