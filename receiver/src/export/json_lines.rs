//! An encoded request to one line of OTLP JSON, as the Collector's file exporter writes it: the protobuf JSON mapping with
//! hexadecimal trace and span ids, 64-bit integers as strings, and enumerations as numbers.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde::Serialize;
use serde_json::Value;

use netflume_core::model::request::{Request, Signal};

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The bytes are not the request that they claim to be.
    #[error("request is not valid protobuf")]
    Decode(#[from] prost::DecodeError),
    /// A value has no JSON form.
    #[error("request has no JSON form")]
    Encode(#[from] serde_json::Error),
}

/// The request as JSON, without a line end.
///
/// # Errors
/// The bytes are not what `request.signal` says.
pub fn encode(request: &Request) -> Result<String, JsonError> {
    match request.signal {
        Signal::Logs => convert::<ExportLogsServiceRequest>(request),
        Signal::Metrics => convert::<ExportMetricsServiceRequest>(request),
        Signal::Traces => convert::<ExportTraceServiceRequest>(request),
    }
}

fn convert<M: Message + Default + Serialize>(request: &Request) -> Result<String, JsonError> {
    let mut json = serde_json::to_value(M::decode(request.body.clone())?)?;
    tidy(&mut json);
    Ok(serde_json::to_string(&json)?)
}

/// Messages that the Collector writes even when they are empty.
const ALWAYS: &[&str] = &["resource", "scope", "body", "value", "status"];
/// Members of a oneof, and optional numbers: there even when they are zero.
const PRESENT: &[&str] = &[
    "stringValue",
    "boolValue",
    "intValue",
    "doubleValue",
    "bytesValue",
    "arrayValue",
    "kvlistValue",
    "asInt",
    "asDouble",
    "sum",
    "min",
    "max",
];

/// Leaves out what has its default value, and writes whole numbers without a fraction, as the Collector does.
fn tidy(json: &mut Value) {
    match json {
        Value::Object(entries) => {
            for (key, value) in entries.iter_mut() {
                if value.is_null() && ALWAYS.contains(&key.as_str()) {
                    *value = Value::Object(serde_json::Map::new());
                }
                tidy(value);
            }
            entries.retain(|key, value| match value {
                Value::Null => false,
                _ => PRESENT.contains(&key.as_str()) || !is_default(value),
            });
            // The Collector writes the flags of a number's point after the number.
            let is_number = entries.contains_key("asInt") || entries.contains_key("asDouble");
            if is_number && let Some(flags) = entries.shift_remove("flags") {
                entries.insert("flags".to_owned(), flags);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(tidy),
        Value::Number(number) => {
            // Beyond 2^53 not every whole number is one.
            if let Some(real) = number.as_f64()
                && number.is_f64()
                && real.fract() == 0.0
                && real.abs() < 9_007_199_254_740_992.0
            {
                #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
                let whole = real as i64;
                *number = whole.into();
            }
        }
        _ => {}
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        // A 64-bit integer is text.
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(values) => values.is_empty(),
        Value::Null | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};

    use super::*;

    #[test]
    fn json_is_that_of_the_otlp_specification() {
        let record = LogRecord {
            time_unix_nano: 1_700_000_000_000_000_001,
            severity_number: 9,
            event_name: "netflow".to_owned(),
            trace_id: vec![0xab; 16],
            body: Some(AnyValue {
                value: Some(Any::IntValue(5)),
            }),
            attributes: vec![KeyValue {
                key: "k".to_owned(),
                value: Some(AnyValue {
                    value: Some(Any::StringValue("v".to_owned())),
                }),
                ..KeyValue::default()
            }],
            ..LogRecord::default()
        };
        let message = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                scope_logs: vec![ScopeLogs {
                    log_records: vec![record],
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        };
        let request = Request {
            signal: Signal::Logs,
            body: Bytes::from(message.encode_to_vec()),
            items: 1,
        };
        assert_eq!(
            encode(&request).unwrap(),
            format!(
                "{}{}{}{}{}",
                r#"{"resourceLogs":[{"resource":{},"scopeLogs":[{"scope":{},"logRecords":[{"#,
                r#""timeUnixNano":"1700000000000000001","severityNumber":9,"body":{"intValue":"5"},"#,
                r#""attributes":[{"key":"k","value":{"stringValue":"v"}}],"#,
                r#""traceId":"abababababababababababababababab","eventName":"netflow""#,
                r#"}]}]}]}"#
            )
        );
    }

    #[test]
    fn bytes_that_are_no_request_are_an_error() {
        let request = Request {
            signal: Signal::Metrics,
            body: Bytes::from_static(b"\xff\xff"),
            items: 1,
        };
        assert!(matches!(encode(&request), Err(JsonError::Decode(_))));
    }
}
