//! The `OTEL_*` variables, by the OTLP exporter specification and the SDK's general variables.
//!
//! A variable counts where the file does not set its key; a signal's own variable wins over the generic one. An empty value
//! is as if unset, and a wrong one is reported and ignored, as the specification wants it; but for an endpoint: to ignore it would
//! send the data to another destination, so it ends the start.

use netflume_core::enrich::environment::pairs;

use crate::config::Config;
use crate::config::expand::Variables;
use crate::config::problem::{Cause, Problem};
use crate::config::schema::{Applied, Kind, rows};
use crate::config::tree::Node;
use crate::config::value::{Allowed, Limits, Mismatch, Setting};
use crate::export::endpoint::{Endpoint, EndpointError};

/// How a variable's text becomes a value of its key.
#[derive(Clone, Copy)]
enum Form {
    /// As in the file.
    Plain,
    /// Where requests go. A path, which URLs for OTLP over HTTP have, is left out.
    Endpoint,
    /// Milliseconds.
    Milliseconds,
    /// `k1=v1,k2=v2`, values percent-encoded.
    Pairs,
    /// `true` in any case; all else is false.
    Truth,
}

/// Last part of the variable's name, key below `exporters.otlp_grpc` or below one signal of it, form.
const CLIENT: &[(&str, &str, Form)] = &[
    ("ENDPOINT", "endpoint", Form::Endpoint),
    ("COMPRESSION", "compression", Form::Plain),
    ("TIMEOUT", "timeout", Form::Milliseconds),
    ("HEADERS", "headers", Form::Pairs),
    ("INSECURE", "tls.insecure", Form::Truth),
    ("CERTIFICATE", "tls.ca_file", Form::Plain),
    ("CLIENT_CERTIFICATE", "tls.cert_file", Form::Plain),
    ("CLIENT_KEY", "tls.key_file", Form::Plain),
];
const SIGNALS: &[(&str, &str)] = &[
    ("LOGS_", "logs."),
    ("METRICS_", "metrics."),
    ("TRACES_", "traces."),
];

/// Resource attributes that the variables give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceVariables {
    /// `OTEL_RESOURCE_ATTRIBUTES`, without `service.name` if `OTEL_SERVICE_NAME` is set.
    pub attributes: Vec<(String, String)>,
    /// `OTEL_SERVICE_NAME`, or `service.name` of the attributes.
    pub service_name: Option<String>,
}

/// A variable that is set to something.
fn value(variables: Variables<'_>, name: &str) -> Option<String> {
    variables(name).filter(|value| !value.is_empty())
}

/// Whether a variable names a Collector.
pub(super) fn names_endpoint(variables: Variables<'_>) -> bool {
    ["", "LOGS_", "METRICS_", "TRACES_"]
        .iter()
        .any(|signal| value(variables, &format!("OTEL_EXPORTER_OTLP_{signal}ENDPOINT")).is_some())
}

/// What could not be used as it stands.
#[derive(Debug, Default)]
pub(super) struct Unusable {
    /// Variables that were ignored, all or in part.
    pub(super) ignored: Vec<Problem>,
    /// Variables with which there is no start.
    pub(super) refused: Vec<Problem>,
}

/// Sets what the variables say and the file does not. Gives what was not taken over, and why.
pub(super) fn apply(config: &mut Config, variables: Variables<'_>, file: &Applied) -> Unusable {
    let mut unusable = Unusable::default();
    if config.exporters.otlp_grpc.is_some() {
        for (name, key, form) in CLIENT {
            let common = format!("exporters.otlp_grpc.{key}");
            if file.is_set(&common) {
                continue;
            }
            set(
                config,
                variables,
                &format!("OTEL_EXPORTER_OTLP_{name}"),
                &common,
                *form,
                &mut unusable,
            );
            for (signal_name, signal_key) in SIGNALS {
                let path = format!("exporters.otlp_grpc.{signal_key}{key}");
                if !file.is_set(&path) {
                    let name = format!("OTEL_EXPORTER_OTLP_{signal_name}{name}");
                    set(config, variables, &name, &path, *form, &mut unusable);
                }
            }
        }
        for signal in ["", "LOGS_", "METRICS_", "TRACES_"] {
            let name = format!("OTEL_EXPORTER_OTLP_{signal}PROTOCOL");
            if let Some(protocol) = value(variables, &name)
                && protocol != "grpc"
            {
                let text = format!(
                    "found `{protocol}`, netflume speaks grpc only (port 4317 of a Collector); grpc is used"
                );
                unusable.ignored.push(problem(&name, Cause::Conflict(text)));
            }
        }
    }
    metrics(config, variables, file, &mut unusable.ignored);
    config.resource = resource(variables, &mut unusable.ignored);
    unusable
}

fn metrics(
    config: &mut Config,
    variables: Variables<'_>,
    file: &Applied,
    ignored: &mut Vec<Problem>,
) {
    let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    if let Some(preference) = value(variables, name).filter(|_| !file.is_set("metrics.temporality"))
    {
        // `lowmemory` differs from `delta` only for asynchronous counters, of which there are none here.
        let word = match preference.to_lowercase().as_str() {
            "lowmemory" => "delta".to_owned(),
            other => other.to_owned(),
        };
        if config
            .metrics
            .temporality
            .set(&Node::Text(word), &Limits::Any)
            .is_err()
        {
            let mismatch = Mismatch::of(
                &Node::Text(preference),
                Allowed::OneOf(&["cumulative", "delta", "lowmemory"]),
            );
            ignored.push(problem(name, Cause::Value(mismatch)));
        }
    }
    let name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    if let Some(aggregation) = value(variables, name)
        && !aggregation.eq_ignore_ascii_case("explicit_bucket_histogram")
    {
        let mismatch = Mismatch::of(&Node::Text(aggregation), "explicit_bucket_histogram");
        ignored.push(problem(name, Cause::Value(mismatch)));
    }
}

fn problem(variable: &str, cause: Cause) -> Problem {
    Problem {
        source: variable.to_owned(),
        position: None,
        path: String::new(),
        cause,
    }
}

fn set(
    config: &mut Config,
    variables: Variables<'_>,
    name: &str,
    path: &str,
    form: Form,
    unusable: &mut Unusable,
) {
    let Some(text) = value(variables, name) else {
        return;
    };
    let ignored = &mut unusable.ignored;
    let node = match form {
        Form::Plain => Node::Variable(text),
        Form::Endpoint => match endpoint(&text) {
            Ok((endpoint, path)) => {
                if !path.is_empty() {
                    let text = format!(
                        "path `{path}`: OTLP over gRPC has none; requests go to {endpoint}"
                    );
                    ignored.push(problem(name, Cause::Conflict(text)));
                }
                Node::Variable(endpoint.to_owned())
            }
            Err(error) => {
                let cause = Cause::Conflict(error.to_string());
                return unusable.refused.push(problem(name, cause));
            }
        },
        Form::Truth => Node::Flag(text.eq_ignore_ascii_case("true")),
        Form::Milliseconds => match text.parse::<u64>() {
            Ok(ms) => Node::Text(format!("{ms}ms")),
            Err(_) => {
                let mismatch = Mismatch::of(&Node::Text(text), "a whole number of milliseconds");
                return ignored.push(problem(name, Cause::Value(mismatch)));
            }
        },
        Form::Pairs => match pairs(&text) {
            Some(pairs) => Node::Map(pairs.into_iter().map(|(k, v)| (k, Node::Text(v))).collect()),
            None => {
                // Headers hold credentials: the text itself is not shown.
                let text = "not of the form `key1=value1,key2=value2` (values percent-encoded)";
                return ignored.push(problem(name, Cause::Conflict(text.to_owned())));
            }
        },
    };
    let row = rows().find(|row| row.path == path);
    if let Some(Kind::Value(limits, setting)) = row.map(|row| &row.kind)
        && let Err(mismatch) = setting(config).set(&node, limits)
    {
        ignored.push(problem(name, Cause::Value(mismatch)));
    }
}

/// An endpoint and the path behind it.
fn endpoint(text: &str) -> Result<(&str, &str), EndpointError> {
    let text = text.trim();
    let (endpoint, path) = match Endpoint::parse(text, false) {
        Err(EndpointError::Path(path)) => text.split_at(text.len() - path.len()),
        _ => (text, ""),
    };
    Endpoint::parse(endpoint, false).map(|_| (endpoint, path))
}

fn resource(variables: Variables<'_>, ignored: &mut Vec<Problem>) -> ResourceVariables {
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    let mut attributes = Vec::new();
    if let Some(text) = value(variables, name) {
        // The specification: on any error the whole value is discarded.
        match pairs(&text) {
            Some(pairs) => attributes = pairs,
            None => {
                let mismatch = Mismatch::of(
                    &Node::Text(text),
                    "`key1=value1,key2=value2` with percent-encoded values",
                );
                ignored.push(problem(name, Cause::Value(mismatch)));
            }
        }
    }
    let from_attributes = attributes
        .iter()
        .rposition(|(key, _)| key == "service.name")
        .map(|n| attributes[n].1.clone());
    attributes.retain(|(key, _)| key != "service.name");
    ResourceVariables {
        attributes,
        service_name: value(variables, "OTEL_SERVICE_NAME").or(from_attributes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_name_variable_wins_over_the_attribute() {
        let variables = |name: &str| match name {
            "OTEL_RESOURCE_ATTRIBUTES" => {
                Some("service.name=a,deployment.environment.name=test".to_owned())
            }
            "OTEL_SERVICE_NAME" => Some("b".to_owned()),
            _ => None,
        };
        let resource = resource(&variables, &mut Vec::new());
        assert_eq!(resource.service_name.as_deref(), Some("b"));
        assert_eq!(
            resource.attributes,
            [("deployment.environment.name".into(), "test".into())]
        );
    }
}
