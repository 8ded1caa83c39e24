//! netflume's own `/metrics` page, and the books on it.

use std::net::SocketAddr;

use anyhow::Result;

use crate::http::{self, Sample};

/// The samples of a page.
#[derive(Clone, Debug)]
pub struct Page(Vec<Sample>);

/// What a stage received, passed on and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stage {
    /// Items that came in.
    pub received: u64,
    /// Items that went on.
    pub passed: u64,
    /// Items that went no further, all reasons.
    pub dropped: u64,
    /// Bytes that came in.
    pub bytes: u64,
}

impl Stage {
    /// Nothing is held, nothing was lost from sight.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.received == self.passed + self.dropped
    }
}

impl Page {
    /// Asks for the page.
    ///
    /// # Errors
    /// Nobody answers, or not in Prometheus's format.
    pub fn read(address: SocketAddr) -> Result<Self> {
        Ok(Self(http::samples(&http::get(address, "/metrics")?)?))
    }

    /// The sum of all series of a metric that have these labels.
    #[must_use]
    pub fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            sample.metric == metric
                && labels
                    .iter()
                    .all(|(name, value)| sample.labels.get(*name).is_some_and(|is| is == value))
        };
        self.0.iter().filter(fits).map(|sample| sample.value).sum()
    }

    /// [`Self::sum`] of counts.
    #[must_use]
    pub fn count(&self, metric: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(metric, labels) as u64
    }

    /// The books of a stage, of all receivers.
    #[must_use]
    pub fn stage(&self, name: &str) -> Stage {
        self.books(&[("stage", name)])
    }

    /// The books of a stage, for one receiver's items.
    #[must_use]
    pub fn stage_of(&self, receiver: &str, name: &str) -> Stage {
        self.books(&[("receiver", receiver), ("stage", name)])
    }

    /// The books of a receiver's source.
    #[must_use]
    pub fn source(&self, receiver: &str) -> Stage {
        self.stage_of(receiver, "source")
    }

    fn books(&self, labels: &[(&str, &str)]) -> Stage {
        let of = |metric| self.count(metric, labels);
        Stage {
            received: of("netflume_received_total"),
            passed: of("netflume_passed_total"),
            dropped: of("netflume_dropped_total"),
            bytes: of("netflume_io_bytes_total"),
        }
    }
}
