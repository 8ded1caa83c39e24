//! An encoded request to one line of OTLP JSON, as the Collector's file exporter writes it: the protobuf JSON mapping with
//! hexadecimal trace and span ids, 64-bit integers as strings, and enumerations as numbers.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde::Serialize;

use crate::export::{Request, Signal};

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
    Ok(serde_json::to_string(&M::decode(request.body.clone())?)?)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
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
                value: Some(Value::IntValue(5)),
            }),
            attributes: vec![KeyValue {
                key: "k".to_owned(),
                value: Some(AnyValue {
                    value: Some(Value::StringValue("v".to_owned())),
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
        let json: serde_json::Value = serde_json::from_str(&encode(&request).unwrap()).unwrap();
        let record = &json["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["timeUnixNano"], "1700000000000000001");
        assert_eq!(record["severityNumber"], 9);
        assert_eq!(record["traceId"], "ab".repeat(16));
        assert_eq!(record["body"]["intValue"], "5");
        assert_eq!(record["attributes"][0]["value"]["stringValue"], "v");
        assert_eq!(record["eventName"], "netflow");
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
