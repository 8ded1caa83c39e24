//! OTLP JSON, as the Collector's file exporter writes it, to plain values that tests compare.
//!
//! Source: the OTLP specification's JSON mapping. 64-bit integers are strings there; here they are numbers again.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Number, Value};

/// Attributes, or a body that is a map.
pub type Fields = Map<String, Value>;

/// One log record with the resource it belongs to.
#[derive(Clone, Debug)]
pub struct Log {
    /// Attributes of the resource.
    pub resource: Fields,
    /// Name of the instrumentation scope.
    pub scope: String,
    /// `event_name`
    pub event_name: String,
    /// `time_unix_nano`
    pub time_unix_nano: u64,
    /// Severity number.
    pub severity: u64,
    /// Body as plain JSON.
    pub body: Value,
    /// Attributes of the record.
    pub attributes: Fields,
}

/// One metric point with its metric and resource.
#[derive(Clone, Debug)]
pub struct Point {
    /// Attributes of the resource.
    pub resource: Fields,
    /// Name of the instrumentation scope.
    pub scope: String,
    /// Name of the metric.
    pub metric: String,
    /// Unit of the metric.
    pub unit: String,
    /// `sum`, `gauge`, `histogram` or `exponentialHistogram`
    pub kind: String,
    /// 1 delta, 2 cumulative; 0 where there is none.
    pub temporality: u64,
    /// Whether a sum only grows.
    pub monotonic: bool,
    /// Attributes of the point.
    pub attributes: Fields,
    /// Start of the series.
    pub start_unix_nano: u64,
    /// Time of the point.
    pub time_unix_nano: u64,
    /// Value of a sum or gauge, sum of a histogram.
    pub value: f64,
    /// Observations of a histogram; 0 otherwise.
    pub count: u64,
    /// It has no value: its series ended (`DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`).
    pub is_end: bool,
}

/// The log records of one request.
///
/// # Errors
/// It is not the JSON of an `ExportLogsServiceRequest`.
pub fn logs(request: &Value) -> Result<Vec<Log>> {
    let mut all = Vec::new();
    for resource in list(request, "resourceLogs") {
        for scope in list(resource, "scopeLogs") {
            for record in list(scope, "logRecords") {
                all.push(Log {
                    resource: attributes(&resource["resource"])?,
                    scope: text(&scope["scope"], "name"),
                    event_name: text(record, "eventName"),
                    time_unix_nano: integer(record, "timeUnixNano")?,
                    severity: integer(record, "severityNumber")?,
                    body: record.get("body").map_or(Ok(Value::Null), any_value)?,
                    attributes: attributes(record)?,
                });
            }
        }
    }
    Ok(all)
}

/// The metric points of one request.
///
/// # Errors
/// It is not the JSON of an `ExportMetricsServiceRequest`.
pub fn points(request: &Value) -> Result<Vec<Point>> {
    let mut all = Vec::new();
    for resource in list(request, "resourceMetrics") {
        for scope in list(resource, "scopeMetrics") {
            for metric in list(scope, "metrics") {
                let name = text(metric, "name");
                let kinds = ["sum", "gauge", "histogram", "exponentialHistogram"];
                let kind = kinds
                    .into_iter()
                    .find(|kind| metric.get(kind).is_some())
                    .with_context(|| format!("metric {name} has no data"))?;
                let data = &metric[kind];
                for point in list(data, "dataPoints") {
                    all.push(Point {
                        resource: attributes(&resource["resource"])?,
                        scope: text(&scope["scope"], "name"),
                        metric: name.clone(),
                        unit: text(metric, "unit"),
                        kind: kind.to_owned(),
                        temporality: integer(data, "aggregationTemporality")?,
                        monotonic: data["isMonotonic"].as_bool().unwrap_or(false),
                        attributes: attributes(point)?,
                        start_unix_nano: integer(point, "startTimeUnixNano")?,
                        time_unix_nano: integer(point, "timeUnixNano")?,
                        value: point_value(point)?,
                        count: integer(point, "count")?,
                        is_end: integer(point, "flags")? & 1 != 0,
                    });
                }
            }
        }
    }
    Ok(all)
}

fn point_value(point: &Value) -> Result<f64> {
    match (
        point.get("asInt"),
        point.get("asDouble").or(point.get("sum")),
    ) {
        (Some(_), _) => {
            let value: i64 = text(point, "asInt").parse()?;
            Ok(value as f64)
        }
        (None, Some(value)) => value.as_f64().context("not a number"),
        (None, None) => Ok(0.0),
    }
}

/// The elements of a repeated field; the mapping leaves an empty one out.
fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// An integer, whether written as a number or as text; 0 when left out.
fn integer(value: &Value, key: &str) -> Result<u64> {
    match &value[key] {
        Value::Null => Ok(0),
        Value::Number(number) => number.as_u64().with_context(|| format!("{key}: {number}")),
        Value::String(text) => text.parse().with_context(|| format!("{key}: {text}")),
        other => bail!("{key}: {other}"),
    }
}

fn attributes(value: &Value) -> Result<Fields> {
    key_values(list(value, "attributes"))
}

fn key_values(list: &[Value]) -> Result<Fields> {
    let mut fields = Fields::new();
    for pair in list {
        let key = text(pair, "key");
        if fields
            .insert(key.clone(), any_value(&pair["value"])?)
            .is_some()
        {
            bail!("{key} is there twice");
        }
    }
    Ok(fields)
}

fn any_value(value: &Value) -> Result<Value> {
    let Some((kind, inner)) = value.as_object().and_then(|fields| fields.iter().next()) else {
        return Ok(Value::Null);
    };
    Ok(match kind.as_str() {
        "stringValue" | "boolValue" | "doubleValue" | "bytesValue" => inner.clone(),
        "intValue" => {
            let number: i64 = inner.as_str().context("intValue is not text")?.parse()?;
            Value::Number(Number::from(number))
        }
        "arrayValue" => Value::Array(
            list(inner, "values")
                .iter()
                .map(any_value)
                .collect::<Result<_>>()?,
        ),
        "kvlistValue" => Value::Object(key_values(list(inner, "values"))?),
        other => bail!("unknown kind of value: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_comes_back_as_plain_values() {
        let request = json!({"resourceLogs": [{
            "resource": {"attributes": [{"key": "host.name", "value": {"stringValue": "a"}}]},
            "scopeLogs": [{"scope": {"name": "s"}, "logRecords": [{
                "timeUnixNano": "5", "eventName": "netflow",
                "body": {"kvlistValue": {"values": [
                    {"key": "bytes_read", "value": {"intValue": "9007199254740993"}},
                    {"key": "tags", "value": {"arrayValue": {"values": [{"boolValue": true}]}}}
                ]}}
            }]}]
        }]});
        let logs = logs(&request).unwrap();
        assert_eq!(logs.len(), 1);
        assert_eq!(logs[0].resource["host.name"], "a");
        assert_eq!(logs[0].time_unix_nano, 5);
        assert_eq!(
            logs[0].body,
            json!({"bytes_read": 9_007_199_254_740_993_i64, "tags": [true]})
        );
    }

    #[test]
    fn an_attribute_given_twice_is_an_error() {
        let pair = json!({"key": "a", "value": {"intValue": "1"}});
        assert!(key_values(&[pair.clone(), pair]).is_err());
    }
}
