//! OTLP metrics to Prometheus text, names and labels translated as the Collector's Prometheus exporter does by default.
//!
//! Rules: OpenTelemetry specification, "Prometheus and OpenMetrics compatibility"; Prometheus otlptranslator 1.0, strategy
//! `UnderscoreEscapingWithSuffixes`. Formats: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! Metrics of the program's own resource carry no resource labels (the scrape adds `job` and `instance`); those of any other
//! resource carry `job` and `instance`, and the resource itself is a series of `target_info`. Scope labels are left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hashbrown::HashMap;

use netflume_core::model::metrics::{
    AttributeValue, Attributes, Data, Exemplar, Number, ResourceMetrics, Temporality,
};
use netflume_core::model::resource::{Resource, Value};
use netflume_core::semconv;

mod names;

pub use names::{label_name, metric_name};

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All series of one name.
struct Family {
    kind: Kind,
    help: &'static str,
    /// By labels as they are written; in the order in which they came.
    series: Vec<(String, Sample)>,
    index: HashMap<String, usize>,
}

enum Sample {
    Number(Number, Vec<Exemplar>),
    Histogram {
        bounds: &'static [f64],
        counts: Vec<u64>,
        sum: f64,
        exemplars: Vec<Exemplar>,
    },
}

/// Writes metrics. `own`: the program's own resource. Delta points and series that ended are left out: a scrape is of totals.
#[must_use]
pub fn write(metrics: &[ResourceMetrics], own: &Resource, format: Format) -> String {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for group in metrics {
        let target = (*group.resource != *own).then(|| target_labels(&group.resource));
        if target.is_some() {
            target_info(&mut families, &group.resource);
        }
        let target = target.unwrap_or_default();
        for metric in &group.metrics {
            collect(&mut families, metric, &target);
        }
    }
    let mut text = String::new();
    for (name, family) in &families {
        write_family(&mut text, name, family, format);
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn collect(
    families: &mut BTreeMap<String, Family>,
    metric: &netflume_core::model::metrics::Metric,
    target: &str,
) {
    let (kind, samples): (_, Vec<(&Attributes, Sample)>) = match &metric.data {
        Data::Sum {
            temporality: Temporality::Delta,
            ..
        }
        | Data::Histogram {
            temporality: Temporality::Delta,
            ..
        } => return,
        Data::Sum {
            monotonic, points, ..
        } => (
            if *monotonic {
                Kind::Counter
            } else {
                Kind::Gauge
            },
            numbers(points),
        ),
        Data::Gauge(points) => (Kind::Gauge, numbers(points)),
        Data::Histogram { bounds, points, .. } => (
            Kind::Histogram,
            points
                .iter()
                .filter(|point| !point.no_recorded_value)
                .map(|point| {
                    let sample = Sample::Histogram {
                        bounds,
                        counts: point.bucket_counts.clone(),
                        sum: point.sum,
                        exemplars: point.exemplars.clone(),
                    };
                    (&point.attributes, sample)
                })
                .collect(),
        ),
    };
    let is_gauge = matches!(metric.data, Data::Gauge(_));
    let name = metric_name(metric.name, metric.unit, kind == Kind::Counter, is_gauge);
    let family = families.entry(name).or_insert_with(|| Family {
        kind,
        help: metric.description,
        series: Vec::new(),
        index: HashMap::new(),
    });
    // Two metrics of one name and different kinds cannot both be shown.
    if family.kind != kind {
        tracing::debug!(
            metric = metric.name,
            "left out: its Prometheus name is taken by another kind"
        );
        return;
    }
    for (attributes, sample) in samples {
        let mut labels = labels(attributes);
        if !target.is_empty() {
            if !labels.is_empty() {
                labels.push(',');
            }
            labels.push_str(target);
        }
        add(family, labels, sample);
    }
}

fn numbers(points: &[netflume_core::model::metrics::NumberPoint]) -> Vec<(&Attributes, Sample)> {
    points
        .iter()
        .filter(|point| !point.no_recorded_value)
        .map(|point| {
            let sample = Sample::Number(point.value, point.exemplars.clone());
            (&point.attributes, sample)
        })
        .collect()
}

/// Two resources that Prometheus cannot tell apart must not give one series twice: their values are added up.
fn add(family: &mut Family, labels: String, sample: Sample) {
    let Some(at) = family.index.get(&labels) else {
        family.index.insert(labels.clone(), family.series.len());
        family.series.push((labels, sample));
        return;
    };
    match (&mut family.series[*at].1, sample) {
        (Sample::Number(Number::Int(total), kept), Sample::Number(Number::Int(more), other)) => {
            *total = total.saturating_add(more);
            kept.extend(other);
        }
        (
            Sample::Number(Number::Double(total), kept),
            Sample::Number(Number::Double(more), other),
        ) => {
            *total += more;
            kept.extend(other);
        }
        (
            Sample::Histogram {
                bounds,
                counts,
                sum,
                exemplars,
            },
            Sample::Histogram {
                bounds: other,
                counts: more,
                sum: more_sum,
                exemplars: more_exemplars,
            },
        ) if *bounds == other => {
            for (count, more) in counts.iter_mut().zip(more) {
                *count += more;
            }
            *sum += more_sum;
            exemplars.extend(more_exemplars);
        }
        (kept, sample) => *kept = sample,
    }
}

fn write_family(text: &mut String, name: &str, family: &Family, format: Format) {
    let openmetrics = format == Format::OpenMetrics;
    let (family_name, kind) = match family.kind {
        Kind::Counter if openmetrics => (name.strip_suffix("_total").unwrap_or(name), "counter"),
        Kind::Counter => (name, "counter"),
        Kind::Gauge if openmetrics && name == TARGET_INFO => ("target", "info"),
        Kind::Gauge => (name, "gauge"),
        Kind::Histogram => (name, "histogram"),
    };
    if !family.help.is_empty() {
        let mut help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        if openmetrics {
            help = help.replace('"', "\\\"");
        }
        let _infallible = writeln!(text, "# HELP {family_name} {help}");
    }
    let _infallible = writeln!(text, "# TYPE {family_name} {kind}");
    for (labels, sample) in &family.series {
        match sample {
            Sample::Number(value, exemplars) => {
                // Of counters only; the newest, as a sample has room for one.
                let newest = exemplars.iter().max_by_key(|exemplar| exemplar.unix_ns);
                let newest = newest.filter(|_| openmetrics && kind == "counter");
                let value = number(*value) + &exemplar(newest);
                sample_line(text, name, "", labels, "", &value);
            }
            Sample::Histogram {
                bounds,
                counts,
                sum,
                exemplars,
            } => {
                let mut total = 0;
                let mut below = f64::NEG_INFINITY;
                let ends = bounds.iter().copied().chain([f64::INFINITY]);
                for (count, end) in counts.iter().zip(ends) {
                    total += count;
                    let in_bucket = exemplars
                        .iter()
                        .filter(|e| below < e.value && e.value <= end);
                    let newest = in_bucket
                        .max_by_key(|exemplar| exemplar.unix_ns)
                        .filter(|_| openmetrics);
                    below = end;
                    let end = format!("le=\"{}\"", float(end, openmetrics));
                    let value = total.to_string() + &exemplar(newest);
                    sample_line(text, name, "_bucket", labels, &end, &value);
                }
                sample_line(text, name, "_sum", labels, "", &float(*sum, false));
                sample_line(text, name, "_count", labels, "", &total.to_string());
            }
        }
    }
}

fn sample_line(text: &mut String, name: &str, suffix: &str, labels: &str, more: &str, value: &str) {
    let comma = if labels.is_empty() || more.is_empty() {
        ""
    } else {
        ","
    };
    let _infallible = if labels.is_empty() && more.is_empty() {
        writeln!(text, "{name}{suffix} {value}")
    } else {
        writeln!(text, "{name}{suffix}{{{labels}{comma}{more}}} {value}")
    };
}

/// The tail of a sample: trace, value, and when in seconds. Names of the trace's labels: "Prometheus and OpenMetrics compatibility".
fn exemplar(exemplar: Option<&Exemplar>) -> String {
    let Some(exemplar) = exemplar else {
        return String::new();
    };
    let hexadecimal = |id: &[u8]| {
        id.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let own = [
        ("trace_id", hexadecimal(&exemplar.trace_id)),
        ("span_id", hexadecimal(&exemplar.span_id)),
    ];
    let more = exemplar
        .attributes
        .iter()
        .map(|(key, value)| (*key, attribute_text(value)));
    format!(
        " # {{{}}} {} {}.{:09}",
        write_labels(own.into_iter().chain(more)),
        float(exemplar.value, false),
        exemplar.unix_ns / 1_000_000_000,
        exemplar.unix_ns % 1_000_000_000
    )
}

fn number(value: Number) -> String {
    match value {
        Number::Int(value) => value.to_string(),
        Number::Double(value) => float(value, false),
    }
}

/// A number as both formats read it; `point`: whole ones with a decimal point, as OpenMetrics wants bounds.
fn float(value: f64, point: bool) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if point {
        format!("{value:?}")
    } else {
        value.to_string()
    }
}

const TARGET_INFO: &str = "target_info";

fn target_info(families: &mut BTreeMap<String, Family>, resource: &Resource) {
    let mut labels: Vec<(&str, String)> = resource
        .attributes
        .iter()
        .map(|(key, value)| (*key, value_text(value)))
        .chain(
            resource
                .extra
                .iter()
                .map(|(key, value)| (key.as_str(), value.clone())),
        )
        .filter(|(key, _)| {
            ![
                semconv::resource::SERVICE_NAME,
                semconv::resource::SERVICE_NAMESPACE,
                semconv::resource::SERVICE_INSTANCE_ID,
            ]
            .contains(key)
        })
        .collect();
    labels.sort();
    let mut text = write_labels(labels.into_iter());
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(&target_labels(resource));
    let family = families
        .entry(TARGET_INFO.to_owned())
        .or_insert_with(|| Family {
            kind: Kind::Gauge,
            help: "Attributes of the resource.",
            series: Vec::new(),
            index: HashMap::new(),
        });
    if !family.index.contains_key(&text) {
        add(family, text, Sample::Number(Number::Int(1), Vec::new()));
    }
}

/// `job` and `instance` of a resource.
fn target_labels(resource: &Resource) -> String {
    let find = |name: &str| {
        resource
            .attributes
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value_text(value))
            .or_else(|| {
                resource
                    .extra
                    .iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.clone())
            })
            .unwrap_or_default()
    };
    let name = find(semconv::resource::SERVICE_NAME);
    let namespace = find(semconv::resource::SERVICE_NAMESPACE);
    let job = if namespace.is_empty() {
        name
    } else {
        format!("{namespace}/{name}")
    };
    write_labels(
        [
            ("instance", find(semconv::resource::SERVICE_INSTANCE_ID)),
            ("job", job),
        ]
        .into_iter(),
    )
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::List(texts) => {
            serde_json::to_string(&texts.iter().map(AsRef::as_ref).collect::<Vec<&str>>())
                .unwrap_or_default()
        }
    }
}

fn labels(attributes: &Attributes) -> String {
    write_labels(
        attributes
            .iter()
            .map(|(key, value)| (*key, attribute_text(value))),
    )
}

fn attribute_text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Value(value) => value_text(value),
        AttributeValue::Bool(flag) => flag.to_string(),
    }
}

/// Labels as they stand between braces, sorted; values whose keys become the same label are joined by `;` in order of keys.
fn write_labels<'k>(pairs: impl Iterator<Item = (&'k str, String)>) -> String {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in pairs {
        labels
            .entry(label_name(key))
            .and_modify(|joined| {
                joined.push(';');
                joined.push_str(&value);
            })
            .or_insert(value);
    }
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        let _infallible = write!(text, "{name}=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests;
