//! Hubble's metric plugins: options checked, and the series that each of them keeps.

use super::OptionError;
use super::context::{Contexts, PodLabel};
use super::key;
use super::options::MetricOptions;
use super::store::{Counter, Description, Family, Histogram};
use crate::aggregate::flow_filter::FlowFilters;
use crate::model::metrics::Metric;
use crate::semconv::hubble::{label, metric};

/// One plugin with its series.
#[derive(Debug)]
pub(super) struct Plugin {
    /// What it was made of.
    pub options: MetricOptions,
    pub contexts: Contexts,
    pub filters: FlowFilters,
    pub series: Series,
}

/// The series of each plugin, with its own options.
#[derive(Debug)]
pub(super) enum Series {
    Dns {
        with_query: bool,
        ignore_aaaa: bool,
        queries: Family<Counter>,
        responses: Family<Counter>,
        response_types: Family<Counter>,
    },
    Drop(Family<Counter>),
    Flow(Family<Counter>),
    FlowsToWorld {
        any_drop: bool,
        with_port: bool,
        syn_only: bool,
        flows: Family<Counter>,
    },
    Http {
        exemplars: bool,
        requests: Family<Counter>,
        responses: Family<Counter>,
        duration: Family<Histogram>,
    },
    HttpV2 {
        exemplars: bool,
        requests: Family<Counter>,
        duration: Family<Histogram>,
    },
    Icmp(Family<Counter>),
    Kafka {
        requests: Family<Counter>,
        duration: Family<Histogram>,
    },
    Policy(Family<Counter>),
    PortDistribution(Family<Counter>),
    Sctp(Family<Counter>),
    Tcp(Family<Counter>),
}

/// The plugins and their own options.
pub(super) const NAMES: &[(&str, &[&str])] = &[
    ("dns", &["query", "ignoreAAAA"]),
    ("drop", &[]),
    ("flow", &[]),
    ("flows-to-world", &["any-drop", "port", "syn-only"]),
    ("http", &["exemplars"]),
    ("httpV2", &["exemplars"]),
    ("icmp", &[]),
    ("kafka", &[]),
    ("policy", &[]),
    ("port-distribution", &[]),
    ("sctp", &[]),
    ("tcp", &[]),
];

impl Plugin {
    /// Checks the options and makes empty series, at most `limit` for each metric.
    pub(super) fn new(options: &MetricOptions, limit: usize) -> Result<Self, OptionError> {
        let Some((name, own)) = NAMES.iter().find(|(name, _)| *name == options.name) else {
            return Err(OptionError::Unknown {
                place: "metric".to_owned(),
                word: options.name.clone(),
                known: NAMES.iter().map(|(name, _)| *name).collect(),
            });
        };
        let mut contexts = Contexts::default();
        let mut given = Vec::new();
        for option in &options.context_options {
            if contexts.take(option)? {
                continue;
            }
            match own
                .iter()
                .find(|own| own.eq_ignore_ascii_case(&option.name))
            {
                // As in Hubble, any other value leaves them out.
                Some(&"exemplars") if option.values.first().is_none_or(|v| v != "true") => {}
                Some(own) => given.push(*own),
                None => {
                    return Err(OptionError::Unknown {
                        place: format!("option of metric `{name}`"),
                        word: option.name.clone(),
                        known: [own, Contexts::OPTIONS].concat(),
                    });
                }
            }
        }
        Ok(Self {
            filters: compile(options)?,
            series: series(name, &given, &contexts, limit),
            contexts,
            options: options.clone(),
        })
    }

    /// Whether `options` ask for the same series; filters may differ.
    pub(super) fn asks_the_same(&self, options: &MetricOptions) -> bool {
        self.options.name == options.name && self.options.context_options == options.context_options
    }

    /// Ends the series of these pods (`namespace/pod`), and all that were counted before `quiet_since_ns` last.
    pub(super) fn end(&mut self, is_gone: impl Fn(&str) -> bool, quiet_since_ns: u64) {
        let pods = self.contexts.pods();
        let mut path = String::new();
        let mut is_meant = |key: &[u8], counted_ns| {
            let mut values = |pod: &PodLabel| match *pod {
                PodLabel::Path(at) => key::values(key).nth(at).is_some_and(&is_gone),
                PodLabel::Parts { namespace, pod } => {
                    path.clear();
                    match key::values(key).nth(namespace) {
                        None | Some("") => {}
                        Some(namespace) => path.extend([namespace, "/"]),
                    }
                    path.extend(key::values(key).nth(pod));
                    is_gone(&path)
                }
            };
            counted_ns < quiet_since_ns || pods.iter().any(&mut values)
        };
        let (counters, histogram) = self.series.families_mut();
        for family in counters.into_iter().flatten() {
            family.end(&mut is_meant);
        }
        if let Some(family) = histogram {
            family.end(&mut is_meant);
        }
    }

    /// Whether a new series found no room since this was asked last.
    pub(super) fn take_refused(&mut self) -> bool {
        let (counters, histogram) = self.series.families_mut();
        let counters = counters.into_iter().flatten().map(Family::take_refused);
        let histogram = histogram.map(Family::take_refused);
        counters.chain(histogram).fold(false, |any, one| any | one)
    }

    /// All metrics, and the ends of removed series once.
    pub(super) fn export(&mut self, unix_ns: u64, to: &mut Vec<Metric>) {
        let (counters, histogram) = self.series.families_mut();
        to.extend(
            counters
                .into_iter()
                .flatten()
                .filter_map(|family| family.export(unix_ns)),
        );
        to.extend(histogram.and_then(|family| family.export(unix_ns)));
    }

    /// All metrics.
    pub(super) fn snapshot(&self, unix_ns: u64, to: &mut Vec<Metric>) {
        let (counters, histogram) = self.series.families();
        to.extend(
            counters
                .into_iter()
                .flatten()
                .filter_map(|family| family.snapshot(unix_ns)),
        );
        to.extend(histogram.and_then(|family| family.snapshot(unix_ns)));
    }
}

fn compile(options: &MetricOptions) -> Result<FlowFilters, OptionError> {
    FlowFilters::compile(&options.include_filters, &options.exclude_filters).map_err(|source| {
        OptionError::Filter {
            metric: options.name.clone(),
            source,
        }
    })
}

macro_rules! families {
    ($series:expr) => {
        match $series {
            Series::Dns {
                queries,
                responses,
                response_types,
                ..
            } => ([Some(queries), Some(responses), Some(response_types)], None),
            Series::Drop(family)
            | Series::Flow(family)
            | Series::FlowsToWorld { flows: family, .. }
            | Series::Icmp(family)
            | Series::Policy(family)
            | Series::PortDistribution(family)
            | Series::Sctp(family)
            | Series::Tcp(family) => ([Some(family), None, None], None),
            Series::Http {
                requests,
                responses,
                duration,
                ..
            } => ([Some(requests), Some(responses), None], Some(duration)),
            Series::HttpV2 {
                requests, duration, ..
            }
            | Series::Kafka { requests, duration } => {
                ([Some(requests), None, None], Some(duration))
            }
        }
    };
}

impl Series {
    #[allow(clippy::type_complexity, reason = "counters and a histogram")]
    const fn families(&self) -> ([Option<&Family<Counter>>; 3], Option<&Family<Histogram>>) {
        families!(self)
    }

    #[allow(clippy::type_complexity, reason = "counters and a histogram")]
    const fn families_mut(
        &mut self,
    ) -> (
        [Option<&mut Family<Counter>>; 3],
        Option<&mut Family<Histogram>>,
    ) {
        families!(self)
    }
}

/// The empty series of a plugin. Keys are written in the order contexts, then the labels given here.
fn series(name: &str, options: &[&str], contexts: &Contexts, limit: usize) -> Series {
    let has = |option: &str| options.contains(&option);
    let labels = |own: &[&'static str]| [&contexts.names(), own].concat();
    let counter = |name, text, own: &[&'static str]| {
        Family::new(
            Description {
                name,
                unit: "",
                text,
            },
            labels(own),
            limit,
        )
    };
    let duration = |name, text, own: &[&'static str]| {
        Family::new(
            Description {
                name,
                unit: "s",
                text,
            },
            labels(own),
            limit,
        )
    };
    match name {
        "dns" => {
            let with_query = has("query");
            let dns = |name, text, own: &[&'static str]| {
                let query: &[_] = if with_query { &[label::QUERY] } else { &[] };
                counter(name, text, &[own, query].concat())
            };
            let message = [label::RCODE, label::QTYPES, label::IPS_RETURNED];
            Series::Dns {
                with_query,
                ignore_aaaa: has("ignoreAAAA"),
                queries: dns(metric::DNS_QUERIES, "DNS queries seen.", &message),
                responses: dns(metric::DNS_RESPONSES, "DNS responses seen.", &message),
                response_types: dns(
                    metric::DNS_RESPONSE_TYPES,
                    "Records in DNS responses.",
                    &[label::TYPE, label::QTYPES],
                ),
            }
        }
        "drop" => Series::Drop(counter(
            metric::DROP,
            "Drops.",
            &[label::REASON, label::PROTOCOL],
        )),
        "flow" => Series::Flow(counter(
            metric::FLOWS_PROCESSED,
            "Flows processed.",
            &[label::PROTOCOL, label::TYPE, label::SUBTYPE, label::VERDICT],
        )),
        "flows-to-world" => {
            let with_port = has("port");
            let all = [label::PROTOCOL, label::VERDICT, label::PORT];
            Series::FlowsToWorld {
                any_drop: has("any-drop"),
                with_port,
                syn_only: has("syn-only"),
                flows: counter(
                    metric::FLOWS_TO_WORLD,
                    "Flows to destinations outside the cluster.",
                    if with_port { &all } else { &all[..2] },
                ),
            }
        }
        "http" => Series::Http {
            exemplars: has("exemplars"),
            requests: counter(
                metric::HTTP_REQUESTS,
                "HTTP requests.",
                &[label::METHOD, label::PROTOCOL, label::REPORTER],
            ),
            responses: counter(
                metric::HTTP_RESPONSES,
                "HTTP responses.",
                &[
                    label::METHOD,
                    label::PROTOCOL,
                    label::STATUS,
                    label::REPORTER,
                ],
            ),
            duration: duration(
                metric::HTTP_REQUEST_DURATION,
                "From HTTP request to response.",
                &[label::METHOD, label::REPORTER],
            ),
        },
        "httpV2" => Series::HttpV2 {
            exemplars: has("exemplars"),
            requests: counter(
                metric::HTTP_REQUESTS,
                "HTTP requests.",
                &[
                    label::METHOD,
                    label::PROTOCOL,
                    label::STATUS,
                    label::REPORTER,
                ],
            ),
            duration: duration(
                metric::HTTP_REQUEST_DURATION,
                "From HTTP request to response.",
                &[label::METHOD, label::REPORTER],
            ),
        },
        "icmp" => Series::Icmp(counter(
            metric::ICMP,
            "ICMP messages.",
            &[label::FAMILY, label::TYPE],
        )),
        "kafka" => Series::Kafka {
            requests: counter(
                metric::KAFKA_REQUESTS,
                "Kafka requests.",
                &[
                    label::TOPIC,
                    label::API_KEY,
                    label::ERROR_CODE,
                    label::REPORTER,
                ],
            ),
            duration: duration(
                metric::KAFKA_REQUEST_DURATION,
                "From Kafka request to response.",
                &[label::TOPIC, label::API_KEY, label::REPORTER],
            ),
        },
        "policy" => Series::Policy(counter(
            metric::POLICY_VERDICTS,
            "Verdicts of network policy.",
            &[label::DIRECTION, label::MATCH, label::ACTION],
        )),
        "port-distribution" => Series::PortDistribution(counter(
            metric::PORT_DISTRIBUTION,
            "Forwarded packets by destination port.",
            &[label::PROTOCOL, label::PORT],
        )),
        "sctp" => Series::Sctp(counter(
            metric::SCTP_CHUNK_TYPES,
            "SCTP chunks.",
            &[label::CHUNK_TYPE, label::FAMILY],
        )),
        // The only name that is left.
        _ => Series::Tcp(counter(
            metric::TCP_FLAGS,
            "TCP flags.",
            &[label::FAMILY, label::FLAG],
        )),
    }
}
