//! `receivers.cilium.metrics`: Hubble's own syntax, or the form of its dynamic metrics configuration, checked plugin by plugin.

use crate::config::filters::{filters, json, known_key, reason};
use crate::config::tree::Node;
use crate::config::units::show_text;
use crate::config::value::{Allowed, Limits, Mismatch, Setting, nearest};
use netflume_core::aggregate::hubble::{
    ContextOption, HubbleMetrics, HubbleOptions, MetricOptions, OptionError,
};

/// What stands in the list, in words.
const FORM: &str = "a list of metrics in Hubble's syntax, such as `[\"drop:sourceContext=pod;destinationContext=pod\", tcp]`, or of maps with \
                    `name`, `contextOptions`, `includeFilters`, `excludeFilters`";

impl Setting for Vec<MetricOptions> {
    fn set(&mut self, node: &Node, _: &Limits) -> Result<(), Mismatch> {
        let mut read = Self::new();
        match node {
            // As on Hubble's command line: `drop tcp:sourceContext=pod`.
            Node::Text(text) | Node::Variable(text) => {
                for metric in text.split_whitespace().map(MetricOptions::parse) {
                    read.push(metric);
                    check(&read, node)?;
                }
            }
            Node::List(nodes) => {
                for (n, node) in nodes.iter().enumerate() {
                    read.push(metric(node).map_err(|mismatch| mismatch.at(n))?);
                    check(&read, node).map_err(|mismatch| mismatch.at(n))?;
                }
            }
            _ => return Err(Mismatch::of(node, FORM)),
        }
        *self = read;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Option<String> {
        let metrics: Vec<_> = self.iter().map(show).collect();
        Some(format!("[{}]", metrics.join(", ")))
    }

    fn allowed(&self, _: &Limits) -> Allowed {
        FORM.into()
    }
}

/// Whether the metrics can be kept together.
fn check(metrics: &[MetricOptions], node: &Node) -> Result<(), Mismatch> {
    let options = HubbleOptions {
        metrics: metrics.to_vec(),
        ..HubbleOptions::default()
    };
    let Err(error) = HubbleMetrics::new(&options) else {
        return Ok(());
    };
    let mut mismatch = reason(node, error.to_string());
    mismatch.nearest = match &error {
        OptionError::Unknown { word, known, .. } => {
            nearest(word, known.iter().copied()).map(str::to_owned)
        }
        _ => None,
    };
    Err(mismatch)
}

fn metric(node: &Node) -> Result<MetricOptions, Mismatch> {
    let entries = match node {
        Node::Text(text) | Node::Variable(text) => return Ok(MetricOptions::parse(text)),
        Node::Map(entries) => entries,
        _ => {
            return Err(Mismatch::of(
                node,
                "a metric as text, such as `drop:sourceContext=pod`, or a map with `name`",
            ));
        }
    };
    let mut metric = MetricOptions::default();
    for (n, (key, node)) in entries.iter().enumerate() {
        let result = match key.as_str() {
            "name" => text(node).map(|name| metric.name = name),
            "contextOptions" | "context_options" => {
                list(node, context).map(|options| metric.context_options = options)
            }
            "includeFilters" | "include_filters" => {
                filters(node).map(|filters| metric.include_filters = filters)
            }
            "excludeFilters" | "exclude_filters" => {
                filters(node).map(|filters| metric.exclude_filters = filters)
            }
            _ => unknown(
                key,
                &["name", "contextOptions", "includeFilters", "excludeFilters"],
            ),
        };
        result.map_err(|mismatch| mismatch.at(n))?;
    }
    Ok(metric)
}

fn context(node: &Node) -> Result<ContextOption, Mismatch> {
    let Node::Map(entries) = node else {
        return Err(Mismatch::of(node, "a map with `name` and `values`"));
    };
    let mut option = ContextOption::default();
    for (n, (key, node)) in entries.iter().enumerate() {
        known_key::<ContextOption>(key).map_err(|mismatch| mismatch.at(n))?;
        let result = if key == "name" {
            text(node).map(|name| option.name = name)
        } else {
            list(node, text).map(|values| option.values = values)
        };
        result.map_err(|mismatch| mismatch.at(n))?;
    }
    Ok(option)
}

fn unknown(key: &str, known: &[&str]) -> Result<(), Mismatch> {
    let mut mismatch = Mismatch::of(
        &Node::Text(key.to_owned()),
        format!("one of {}", known.join(", ")),
    );
    mismatch.nearest = nearest(key, known.iter().copied()).map(str::to_owned);
    mismatch.at_key = true;
    Err(mismatch)
}

fn text(node: &Node) -> Result<String, Mismatch> {
    match node {
        Node::Text(text) | Node::Variable(text) => Ok(text.clone()),
        _ => Err(Mismatch::of(node, "text")),
    }
}

fn list<T>(node: &Node, read: fn(&Node) -> Result<T, Mismatch>) -> Result<Vec<T>, Mismatch> {
    let Node::List(nodes) = node else {
        return Err(Mismatch::of(node, "a list"));
    };
    nodes
        .iter()
        .enumerate()
        .map(|(n, node)| read(node).map_err(|mismatch| mismatch.at(n)))
        .collect()
}

/// In Hubble's syntax where that can say it, else as a map.
fn show(metric: &MetricOptions) -> String {
    let mut text = metric.name.clone();
    for (n, option) in metric.context_options.iter().enumerate() {
        text.push(if n == 0 { ':' } else { ';' });
        text.push_str(&option.name);
        if !option.values.is_empty() {
            text.push('=');
            let labels = option.name.eq_ignore_ascii_case("labelsContext");
            text.push_str(&option.values.join(if labels { "," } else { "|" }));
        }
    }
    if MetricOptions::parse(&text) == *metric {
        show_text(&text)
    } else {
        json(metric)
    }
}
