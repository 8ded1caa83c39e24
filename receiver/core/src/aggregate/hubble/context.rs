//! Contexts: which labels name the two ends of a flow, and how their values are made.
//!
//! Cilium `pkg/hubble/metrics/api/context.go` (1.19).

use super::options::ContextOption;
use super::{OptionError, key::Key};
use crate::model::flow::{Endpoint, Flow, TrafficDirection, address_text};
use crate::semconv::hubble::label;

/// The contexts of one metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contexts {
    /// `labelsContext`: bit n is the label n of [`label::CONTEXT`].
    labels: u16,
    source: Identifiers,
    destination: Identifiers,
}

/// Lists of identifiers for one end; the first that gives a value counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Identifiers {
    both: Vec<Identifier>,
    ingress: Option<Vec<Identifier>>,
    egress: Option<Vec<Identifier>>,
}

/// What an end is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identifier {
    Identity,
    Namespace,
    Pod,
    PodName,
    Dns,
    Ip,
    ReservedIdentity,
    Workload,
    WorkloadName,
    App,
}

const IDENTIFIERS: [(&str, Identifier); 10] = [
    ("identity", Identifier::Identity),
    ("namespace", Identifier::Namespace),
    ("pod", Identifier::Pod),
    ("pod-name", Identifier::PodName),
    ("dns", Identifier::Dns),
    ("ip", Identifier::Ip),
    ("reserved-identity", Identifier::ReservedIdentity),
    ("workload", Identifier::Workload),
    ("workload-name", Identifier::WorkloadName),
    ("app", Identifier::App),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

impl Contexts {
    /// The options that every plugin has.
    pub(super) const OPTIONS: &[&str] = &[
        "sourceContext",
        "sourceIngressContext",
        "sourceEgressContext",
        "destinationContext",
        "destinationIngressContext",
        "destinationEgressContext",
        "labelsContext",
    ];

    /// Takes an option if it is one of contexts.
    ///
    /// # Errors
    /// An identifier or label that does not exist.
    pub(super) fn take(&mut self, option: &ContextOption) -> Result<bool, OptionError> {
        let identifiers = || {
            let mut list = Vec::with_capacity(option.values.len());
            for value in &option.values {
                let known = IDENTIFIERS
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(value));
                let Some((_, identifier)) = known else {
                    return Err(OptionError::Unknown {
                        place: option.name.clone(),
                        word: value.clone(),
                        known: IDENTIFIERS.iter().map(|(name, _)| *name).collect(),
                    });
                };
                list.push(*identifier);
            }
            Ok(list)
        };
        // A list without entries is as good as none.
        let some = |list: Vec<Identifier>| (!list.is_empty()).then_some(list);
        match option.name.to_ascii_lowercase().as_str() {
            "sourcecontext" => self.source.both = identifiers()?,
            "sourceingresscontext" => self.source.ingress = some(identifiers()?),
            "sourceegresscontext" => self.source.egress = some(identifiers()?),
            "destinationcontext" => self.destination.both = identifiers()?,
            "destinationingresscontext" => self.destination.ingress = some(identifiers()?),
            "destinationegresscontext" => self.destination.egress = some(identifiers()?),
            "labelscontext" => {
                for value in &option.values {
                    let Some(n) = label::CONTEXT.iter().position(|label| label == value) else {
                        return Err(OptionError::Unknown {
                            place: option.name.clone(),
                            word: value.clone(),
                            known: label::CONTEXT.to_vec(),
                        });
                    };
                    self.labels |= 1 << n;
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The labels, in the order in which [`Contexts::write`] writes values.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = (0..label::CONTEXT.len())
            .filter(|n| self.labels & (1 << n) != 0)
            .map(|n| label::CONTEXT[n])
            .collect();
        if self.source.any() {
            names.push(label::SOURCE);
        }
        if self.destination.any() {
            names.push(label::DESTINATION);
        }
        names
    }

    /// Writes the values. `inverted` exchanges the ends: a response then counts for the client that asked.
    pub(super) fn write(&self, flow: &Flow, inverted: bool, key: &mut Key) {
        let mut left = self.labels;
        while left != 0 {
            let n = left.trailing_zeros();
            left &= left - 1;
            write_label(n, flow, inverted, key);
        }
        let ends = if inverted {
            [
                (&self.source, &self.destination, End::Destination),
                (&self.destination, &self.source, End::Source),
            ]
        } else {
            [
                (&self.source, &self.source, End::Source),
                (&self.destination, &self.destination, End::Destination),
            ]
        };
        for (wanted, lists, end) in ends {
            if wanted.any() {
                lists.write(flow, end, key);
                key.end_value();
            }
        }
    }

    /// Where in a series' label values a pod is named, as positions in [`Contexts::names`].
    pub(super) fn pods(&self) -> Vec<PodLabel> {
        let names = self.names();
        let position = |wanted: &str| names.iter().position(|name| *name == wanted);
        let mut pods = Vec::new();
        for (identifiers, name) in [
            (&self.source, label::SOURCE),
            (&self.destination, label::DESTINATION),
        ] {
            let is_pod = |identifier| identifier == Identifier::Pod;
            if identifiers.all().any(is_pod) {
                pods.extend(position(name).map(PodLabel::Path));
            }
        }
        for (pod, namespace) in [(1, 2), (7, 8)] {
            let both = (1 << pod) | (1 << namespace);
            if self.labels & both == both {
                let [pod, namespace] = [pod, namespace].map(|n| position(label::CONTEXT[n]));
                pods.extend(
                    pod.zip(namespace)
                        .map(|(pod, namespace)| PodLabel::Parts { namespace, pod }),
                );
            }
        }
        pods
    }
}

/// Label values that name a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PodLabel {
    /// One has `namespace/pod`.
    Path(usize),
    /// Two have a part each.
    Parts {
        /// Position of the namespace.
        namespace: usize,
        /// Position of the pod.
        pod: usize,
    },
}

impl Identifiers {
    fn all(&self) -> impl Iterator<Item = Identifier> {
        [
            Some(&self.both),
            self.ingress.as_ref(),
            self.egress.as_ref(),
        ]
        .into_iter()
        .flatten()
        .flatten()
        .copied()
    }

    fn any(&self) -> bool {
        self.all().next().is_some()
    }

    fn write(&self, flow: &Flow, end: End, key: &mut Key) {
        let list = match flow.direction {
            TrafficDirection::INGRESS => self.ingress.as_ref(),
            TrafficDirection::EGRESS => self.egress.as_ref(),
            _ => None,
        };
        let start = key.len();
        for identifier in list.unwrap_or(&self.both) {
            identifier.write(flow, end, key);
            if key.len() > start {
                break;
            }
        }
    }
}

impl Identifier {
    fn write(self, flow: &Flow, end: End, key: &mut Key) {
        let endpoint = end.of(flow);
        match self {
            Self::Identity => key.joined(endpoint.labels().iter().map(AsRef::as_ref)),
            Self::Namespace => key.text(endpoint.namespace()),
            Self::Pod => {
                key.path(endpoint.namespace());
                key.text(endpoint.pod_name());
            }
            Self::PodName => key.text(endpoint.pod_name()),
            Self::Dns => {
                let names = match end {
                    End::Source => &flow.source_names,
                    End::Destination => &flow.destination_names,
                };
                key.joined(
                    names
                        .iter()
                        .flat_map(|names| names.iter())
                        .map(AsRef::as_ref),
                );
            }
            Self::Ip => end.write_ip(flow, key),
            Self::ReservedIdentity => key.text(reserved_identity(endpoint)),
            Self::Workload => {
                if let Some(workload) = endpoint.workloads().first().filter(|w| !w.name.is_empty())
                {
                    key.path(endpoint.namespace());
                    key.text(&workload.name);
                }
            }
            Self::WorkloadName => key.text(endpoint.workloads().first().map_or("", |w| &w.name)),
            Self::App => key.text(app(endpoint)),
        }
    }
}

impl End {
    const fn of(self, flow: &Flow) -> &Endpoint {
        match self {
            Self::Source => &flow.source,
            Self::Destination => &flow.destination,
        }
    }

    fn write_ip(self, flow: &Flow, key: &mut Key) {
        let address = flow.ip.and_then(|ip| match self {
            Self::Source => ip.source,
            Self::Destination => ip.destination,
        });
        if let Some(address) = address {
            key.display(address_text(address));
        }
    }
}

/// Writes the value of one `labelsContext` label.
fn write_label(n: u32, flow: &Flow, inverted: bool, key: &mut Key) {
    let end = if (n >= 6) == inverted {
        End::Source
    } else {
        End::Destination
    };
    let endpoint = end.of(flow);
    match n {
        0 | 6 => end.write_ip(flow, key),
        1 | 7 => key.text(endpoint.pod_name()),
        2 | 8 => key.text(endpoint.namespace()),
        3 | 9 => key.text(endpoint.workloads().first().map_or("", |w| &w.name)),
        4 | 10 => key.text(endpoint.workloads().first().map_or("", |w| &w.kind)),
        5 | 11 => key.text(app(endpoint)),
        _ => key.text(match flow.direction {
            TrafficDirection::INGRESS => "ingress",
            TrafficDirection::EGRESS => "egress",
            _ => "unknown",
        }),
    }
    key.end_value();
}

fn reserved_identity(endpoint: &Endpoint) -> &str {
    const API_SERVER: &str = "reserved:kube-apiserver";
    let labels = || endpoint.labels().iter().map(AsRef::as_ref);
    labels()
        .find(|label: &&str| *label == API_SERVER)
        .or_else(|| labels().find(|label: &&str| label.starts_with("reserved:")))
        .unwrap_or("")
}

/// The value of the first label by which pods say what application they are.
fn app(endpoint: &Endpoint) -> &str {
    const LABELS: [&str; 3] = ["k8s:app.kubernetes.io/name", "k8s:k8s-app", "k8s:app"];
    endpoint
        .labels()
        .iter()
        .filter_map(|label| label.split_once('='))
        .find(|(name, value)| LABELS.contains(name) && !value.is_empty())
        .map_or("", |(_, value)| value)
}
