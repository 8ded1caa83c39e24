//! What the receivers get of a [`Config`].

use netflume_core::aggregate::series;
use netflume_core::enrich::service;
use netflume_core::otlp::logs::{LogBody, LogsOptions};
use netflume_core::otlp::metrics::MetricsOptions;
use netflume_core::otlp::spans::SpansOptions;

use crate::config::Config;
use crate::config::service::Body;
use crate::receivers::Settings;
use crate::receivers::ebpf::options::Scope;

impl Config {
    /// The settings of all receivers, and what they have in common.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let max_request_bytes = self.exporters.otlp_grpc.as_ref().map_or_else(
            || LogsOptions::default().max_request_bytes,
            |otlp| otlp.max_request_size,
        );
        let scope = self.receivers.ebpf.as_ref().map(|ebpf| ebpf.kernel.scope);
        Settings {
            receivers: self.receivers.clone(),
            logs: LogsOptions {
                body: match self.logs.body {
                    Body::Record => LogBody::Record,
                    Body::None => LogBody::None,
                },
                max_request_bytes,
            },
            points: MetricsOptions { max_request_bytes },
            spans: SpansOptions { max_request_bytes },
            series: series::Options {
                temporality: self.metrics.temporality,
                limit: self.metrics.cardinality_limit,
                max_series: self.metrics.max_series,
                ..series::Options::default()
            },
            service: service::Options {
                attributes: self.resource.attributes.clone(),
                service_name: self.resource.service_name.clone(),
                own_environment_is_workload: scope == Some(Scope::Pod),
            },
        }
    }
}
