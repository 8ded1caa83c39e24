//! The two metrics about our own `/metrics` endpoint that Hubble has too.

use super::key::Key;
use super::store::{Counter, Description, Family, Histogram};
use super::{label, metric, resource_metrics};
use crate::model::metrics::ResourceMetrics;
use crate::model::resource::ResourceRef;

/// HTTP statuses that get a series of their own.
const STATUSES: usize = 16;

/// Scrapes of `/metrics`, by HTTP status.
#[derive(Debug)]
pub struct HandlerMetrics {
    requests: Family<Counter>,
    duration: Family<Histogram>,
    key: Key,
}

impl Default for HandlerMetrics {
    fn default() -> Self {
        let requests = Description {
            name: metric::HANDLER_REQUESTS,
            unit: "",
            text: "Requests to the metrics endpoint.",
        };
        let duration = Description {
            name: metric::HANDLER_REQUEST_DURATION,
            unit: "s",
            text: "How long requests to the metrics endpoint took.",
        };
        Self {
            requests: Family::new(requests, vec![label::CODE], STATUSES),
            duration: Family::new(duration, vec![label::CODE], STATUSES),
            key: Key::default(),
        }
    }
}

impl HandlerMetrics {
    /// One request was answered with `status` after `seconds`.
    pub fn answered(&mut self, status: u16, seconds: f64, unix_ns: u64) {
        self.key.clear();
        self.key.number(status);
        self.requests.at(self.key.bytes(), unix_ns).0 += 1;
        self.duration.at(self.key.bytes(), unix_ns).observe(seconds);
    }

    /// Both metrics; `None` before the first request.
    #[must_use]
    pub fn snapshot(&self, resource: &ResourceRef, unix_ns: u64) -> Option<ResourceMetrics> {
        let requests = self.requests.snapshot(unix_ns);
        let duration = self.duration.snapshot(unix_ns);
        resource_metrics(resource, requests.into_iter().chain(duration).collect())
    }
}
