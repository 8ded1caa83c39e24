//! Hubble's metrics: flows in, the series of the configured plugins out, under Hubble's own names and labels.
//!
//! On the hot path a flow costs no allocation as long as its series are known (see `store`'s key buffer). Semantics are those of
//! Cilium 1.19 with `sctp` of 1.20; where they surprise (a denied packet counts as verdict and as drop, DNS responses keep their
//! direction), they are Hubble's own, because dashboards rely on them.

mod context;
mod count;
mod key;
mod options;
mod plugin;
mod store;

use hashbrown::HashMap;

use crate::aggregate::flow_filter::FilterError;
use crate::model::cilium::{LostEvent, lost_source_label};
use crate::model::flow::{Flow, LostEventSource, Node};
use crate::model::metrics::{Metric, ResourceMetrics};
use crate::model::resource::ResourceRef;
use crate::semconv::hubble::{label, metric};
use crate::semconv::scope;

pub use options::{ContextOption, DEFAULT_METRICS, HubbleOptions, MetricOptions};

use key::Key;
use plugin::Plugin;
use store::{Counter, Description, Family};

/// How long the series of a deleted pod stay: late events still find them, and a scrape sees their last values.
const POD_GRACE_NS: u64 = 60_000_000_000;

/// Deleted pods that wait for their end; beyond it all of them end at once.
const MAX_DELETED_PODS: usize = 4096;

/// When a table is full, series that were quiet for so long make room.
const QUIET_NS: u64 = 300_000_000_000;

/// A full table is looked through at most this often.
const MAKE_ROOM_NS: u64 = 10_000_000_000;

/// Why options are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A word that is not known: of a plugin, of one of its options, of an end of a flow, of a label.
    #[error("{place}: found `{word}`, allowed are {list}", list = .known.join(", "))]
    Unknown {
        /// What stands there, in words.
        place: String,
        /// What was found.
        word: String,
        /// What could stand there.
        known: Vec<&'static str>,
    },
    /// Both make the same metrics.
    #[error("metrics `http` and `httpV2` exclude each other")]
    Conflict,
    /// The same plugin a second time.
    #[error("metric `{0}` is there twice")]
    Twice(String),
    /// A filter of the metric cannot be read.
    #[error("metric `{metric}`: {source}")]
    Filter {
        /// The plugin.
        metric: String,
        /// Why.
        source: FilterError,
    },
}

/// The configured metrics with their series.
#[derive(Debug)]
pub struct HubbleMetrics {
    plugins: Vec<Plugin>,
    series_limit: usize,
    lost: Family<Counter>,
    key: Key,
    /// When the series of which pod (`namespace/pod`) end, nanoseconds since 1970.
    deleted_pods: HashMap<Box<str>, u64, foldhash::fast::RandomState>,
    /// Not before then a full table is looked through again.
    make_room_ns: u64,
}

impl HubbleMetrics {
    /// Empty series for the configured plugins.
    ///
    /// # Errors
    /// The first option that cannot be followed.
    pub fn new(options: &HubbleOptions) -> Result<Self, OptionError> {
        let lost = Description {
            name: metric::LOST_EVENTS,
            unit: "",
            text: "Events lost before they could be shown.",
        };
        let mut metrics = Self {
            plugins: Vec::new(),
            series_limit: options.series_limit,
            lost: Family::new(lost, vec![label::SOURCE], 8),
            key: Key::default(),
            deleted_pods: HashMap::default(),
            make_room_ns: 0,
        };
        metrics.reload(options)?;
        Ok(metrics)
    }

    /// Follows new options: what did not change keeps its series, new filters count from now on. On an error nothing changes.
    ///
    /// # Errors
    /// The first option that cannot be followed.
    pub fn reload(&mut self, options: &HubbleOptions) -> Result<(), OptionError> {
        let names = || options.metrics.iter().map(|metric| metric.name.as_str());
        if names().any(|name| name == "http") && names().any(|name| name == "httpV2") {
            return Err(OptionError::Conflict);
        }
        let mut plugins: Vec<Plugin> = Vec::with_capacity(options.metrics.len());
        for metric in &options.metrics {
            if plugins
                .iter()
                .any(|plugin| plugin.options.name == metric.name)
            {
                return Err(OptionError::Twice(metric.name.clone()));
            }
            plugins.push(Plugin::new(metric, options.series_limit)?);
        }
        if options.series_limit == self.series_limit {
            for plugin in &mut plugins {
                let old = self
                    .plugins
                    .iter()
                    .position(|old| old.asks_the_same(&plugin.options));
                if let Some(old) = old {
                    plugin.series = self.plugins.swap_remove(old).series;
                }
            }
        }
        self.plugins = plugins;
        self.series_limit = options.series_limit;
        Ok(())
    }

    /// Counts one flow in every plugin.
    pub fn observe(&mut self, flow: &Flow, node: &Node) {
        for plugin in &mut self.plugins {
            plugin.count(flow, node, &mut self.key);
        }
    }

    /// Counts lost events as Hubble does: losses of the perf ring by notification, others by event.
    pub fn lost(&mut self, lost: &LostEvent) {
        self.key.clear();
        self.key.value(lost_source_label(lost.source));
        let count = match lost.source {
            LostEventSource::PERF_EVENT_RING_BUFFER => 1,
            _ => lost.count,
        };
        self.lost.at(self.key.bytes(), lost.time_ns).add(count);
    }

    /// The pod is gone: its series end in a minute.
    pub fn pod_deleted(&mut self, namespace: &str, pod: &str, unix_ns: u64) {
        if self.deleted_pods.len() >= MAX_DELETED_PODS {
            self.end_pods(u64::MAX);
        }
        self.deleted_pods
            .entry(pod_path(namespace, pod))
            .or_insert(unix_ns.saturating_add(POD_GRACE_NS));
    }

    /// There is a pod of this name (again): its series stay.
    pub fn pod_is_there(&mut self, namespace: &str, pod: &str) {
        if !self.deleted_pods.is_empty() {
            self.deleted_pods.remove(&*pod_path(namespace, pod));
        }
    }

    /// Time goes on: where new series found no room, those of deleted pods and those that were quiet for five minutes end.
    pub fn advance(&mut self, unix_ns: u64) {
        // A clock that was set back does not matter.
        let wait_ns = self.make_room_ns.saturating_sub(unix_ns);
        if wait_ns > 0 && wait_ns <= MAKE_ROOM_NS {
            return;
        }
        let deleted = &self.deleted_pods;
        for plugin in &mut self.plugins {
            if plugin.take_refused() {
                self.make_room_ns = unix_ns.saturating_add(MAKE_ROOM_NS);
                let quiet_since_ns = unix_ns.saturating_sub(QUIET_NS);
                plugin.end(|pod| deleted.contains_key(pod), quiet_since_ns);
            }
        }
    }

    /// All metrics for OTLP; ends of series are told once. `None` when nothing was counted yet.
    pub fn export(&mut self, resource: &ResourceRef, unix_ns: u64) -> Option<ResourceMetrics> {
        self.end_pods(unix_ns);
        let mut metrics: Vec<Metric> = self.lost.export(unix_ns).into_iter().collect();
        for plugin in &mut self.plugins {
            plugin.export(unix_ns, &mut metrics);
        }
        resource_metrics(resource, metrics)
    }

    /// All metrics as they stand, for our own `/metrics`. `None` when nothing was counted yet.
    #[must_use]
    pub fn snapshot(&self, resource: &ResourceRef, unix_ns: u64) -> Option<ResourceMetrics> {
        let mut metrics: Vec<Metric> = self.lost.snapshot(unix_ns).into_iter().collect();
        for plugin in &self.plugins {
            plugin.snapshot(unix_ns, &mut metrics);
        }
        resource_metrics(resource, metrics)
    }

    /// Ends the series of the pods whose time has come.
    fn end_pods(&mut self, unix_ns: u64) {
        if self.deleted_pods.values().all(|end| *end > unix_ns) {
            return;
        }
        let deleted = &self.deleted_pods;
        let is_due = |pod: &str| deleted.get(pod).is_some_and(|end| *end <= unix_ns);
        for plugin in &mut self.plugins {
            plugin.end(is_due, 0);
        }
        self.deleted_pods.retain(|_, end| *end > unix_ns);
    }
}

/// As the context `pod` writes it.
fn pod_path(namespace: &str, pod: &str) -> Box<str> {
    match namespace {
        "" => pod.into(),
        namespace => format!("{namespace}/{pod}").into(),
    }
}

fn resource_metrics(resource: &ResourceRef, metrics: Vec<Metric>) -> Option<ResourceMetrics> {
    (!metrics.is_empty()).then(|| ResourceMetrics {
        resource: resource.clone(),
        scope: scope::HUBBLE,
        metrics,
    })
}

#[cfg(test)]
mod tests;
