//! Which Hubble metrics are kept: Hubble's own syntax and its YAML into one form.
//!
//! `drop:sourceContext=pod|ip;destinationContext=pod` and
//! `{name: drop, contextOptions: [{name: sourceContext, values: [pod, ip]}], includeFilters: […]}` say the same (but only the
//! second has filters). Cilium `pkg/hubble/metrics/api` (1.19).

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::proto::flow::FlowFilter;

/// The Hubble metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct HubbleOptions {
    /// The metrics; empty keeps none but those about lost events. Default: the five of [`DEFAULT_METRICS`].
    pub metrics: Vec<MetricOptions>,
    /// Series that one metric may have at most; further ones are counted together as `otel.metric.overflow`. Default 10,000.
    pub series_limit: usize,
}

/// `hubble_drop_total` and `hubble_tcp_flags_total` with `source` and `destination`, `hubble_flows_processed_total` with
/// `destination` alone. The value is the pod, or for ends that are none the reserved identity, such as `reserved:world`.
/// (Hubble's own default has no metrics at all, and without contexts no `source` and no `destination`.) The handler's two
/// metrics of the five have no options: they belong to the `/metrics` endpoint.
pub const DEFAULT_METRICS: &[&str] = &[
    "drop:sourceContext=pod|reserved-identity;destinationContext=pod|reserved-identity",
    "tcp:sourceContext=pod|reserved-identity;destinationContext=pod|reserved-identity",
    "flow:destinationContext=pod|reserved-identity",
];

impl Default for HubbleOptions {
    fn default() -> Self {
        Self {
            metrics: DEFAULT_METRICS
                .iter()
                .map(|text| MetricOptions::parse(text))
                .collect(),
            series_limit: 10_000,
        }
    }
}

/// One plugin with its options, not yet checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricOptions {
    /// Name of the plugin, for example `drop`.
    pub name: String,
    /// Options of the plugin and contexts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context_options: Vec<ContextOption>,
    /// A flow counts when it matches one of these, or there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include_filters: Vec<FlowFilter>,
    /// A flow does not count when it matches one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_filters: Vec<FlowFilter>,
}

/// One option: a name, and values for those that take any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContextOption {
    /// Matched without regard to case.
    pub name: String,
    /// Values, the first that applies wins.
    pub values: Vec<String>,
}

impl MetricOptions {
    /// Reads Hubble's own syntax: `name[:option[=value[|value…]][;option…]]`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let context_options = options.split(';').filter(|option| !option.is_empty());
        Self {
            name: name.trim().to_owned(),
            context_options: context_options.map(ContextOption::parse).collect(),
            ..Self::default()
        }
    }
}

impl FromStr for MetricOptions {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(text))
    }
}

impl ContextOption {
    fn parse(text: &str) -> Self {
        let (name, values) = text.split_once('=').unwrap_or((text, ""));
        // Values part at bars, and in lists without any at commas.
        let separator = if values.contains('|') { '|' } else { ',' };
        let values = values.split(separator).filter(|value| !value.is_empty());
        Self {
            name: name.to_owned(),
            values: values.map(str::to_owned).collect(),
        }
    }
}

impl<'de> Deserialize<'de> for MetricOptions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// The YAML form, with Hubble's spelling or ours.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            name: String,
            #[serde(default, rename = "contextOptions", alias = "context_options")]
            context_options: Vec<ContextOption>,
            #[serde(default, rename = "includeFilters", alias = "include_filters")]
            include_filters: Vec<FlowFilter>,
            #[serde(default, rename = "excludeFilters", alias = "exclude_filters")]
            exclude_filters: Vec<FlowFilter>,
        }
        struct TextOrFields;
        impl<'de> serde::de::Visitor<'de> for TextOrFields {
            type Value = MetricOptions;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "a metric as text, such as `drop:sourceContext=pod`, or a map with `name`",
                )
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(MetricOptions::parse(text))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<Self::Value, A::Error> {
                let fields =
                    Fields::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(MetricOptions {
                    name: fields.name,
                    context_options: fields.context_options,
                    include_filters: fields.include_filters,
                    exclude_filters: fields.exclude_filters,
                })
            }
        }
        from.deserialize_any(TextOrFields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hubbles_syntax_and_yaml_say_the_same() {
        let text = MetricOptions::parse(
            "dns:query;ignoreAAAA;sourceContext=pod|ip;labelsContext=source_ip,source_pod",
        );
        let yaml: MetricOptions = serde_yaml::from_str(
            "name: dns
contextOptions:
- {name: query}
- {name: ignoreAAAA}
- {name: sourceContext, values: [pod, ip]}
- {name: labelsContext, values: [source_ip, source_pod]}",
        )
        .unwrap();
        assert_eq!(text, yaml);
        let plain: Vec<MetricOptions> =
            serde_yaml::from_str("[drop, 'tcp:sourceContext=pod']").unwrap();
        assert_eq!(plain[1], MetricOptions::parse("tcp:sourceContext=pod"));
    }

    #[test]
    fn filters_are_read_with_the_metric() {
        let yaml: MetricOptions = serde_yaml::from_str(
            "{name: flow, includeFilters: [{source_pod: [default/]}], excludeFilters: [{verdict: [DROPPED]}]}",
        )
        .unwrap();
        assert_eq!(yaml.include_filters[0].source_pod, ["default/"]);
        assert_eq!(yaml.exclude_filters[0].verdict, [2]);
        assert!(serde_yaml::from_str::<MetricOptions>("{name: flow, filters: []}").is_err());
    }
}
