//! `--output json` writes what the Collector's file exporter writes, byte for byte.

use anyhow::Result;
use bytes::Bytes;
use netflume::export::{Request, Signal, json_lines};
use netflume_tests::collector::Collector;
use netflume_tests::wait;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    Sum, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn resource() -> Option<Resource> {
    Some(Resource {
        attributes: vec![pair("service.name", Value::StringValue("netflume".into()))],
        ..Resource::default()
    })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "netflume.netflow".into(),
        version: "0.1.0".into(),
        ..InstrumentationScope::default()
    })
}

fn logs() -> ExportLogsServiceRequest {
    let values = vec![
        pair("zero", Value::IntValue(0)),
        pair("big", Value::IntValue(i64::MIN)),
        pair("empty", Value::StringValue(String::new())),
        pair(
            "text",
            Value::StringValue("a \"quoted\" ü \u{1} line\n".into()),
        ),
        pair("no", Value::BoolValue(false)),
        pair("half", Value::DoubleValue(0.5)),
        pair("whole", Value::DoubleValue(2.0)),
        pair(
            "list",
            Value::ArrayValue(ArrayValue {
                values: vec![AnyValue {
                    value: Some(Value::StringValue("x".into())),
                }],
            }),
        ),
        pair("bytes", Value::BytesValue(vec![1, 2, 255])),
    ];
    let full = LogRecord {
        time_unix_nano: 1_700_000_000_000_000_001,
        observed_time_unix_nano: 1_700_000_000_000_000_002,
        severity_number: 9,
        severity_text: "INFO".into(),
        event_name: "netflow".into(),
        body: Some(AnyValue {
            value: Some(Value::KvlistValue(KeyValueList {
                values: values.clone(),
            })),
        }),
        attributes: values,
        dropped_attributes_count: 3,
        flags: 1,
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
    };
    let empty = LogRecord {
        event_name: "bare".into(),
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![
            ResourceLogs {
                resource: resource(),
                scope_logs: vec![ScopeLogs {
                    scope: scope(),
                    log_records: vec![full],
                    schema_url: "https://opentelemetry.io/schemas/1.44.0".into(),
                }],
                ..ResourceLogs::default()
            },
            ResourceLogs {
                scope_logs: vec![ScopeLogs {
                    log_records: vec![empty],
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            },
        ],
    }
}

fn metrics() -> ExportMetricsServiceRequest {
    let point = |value| NumberDataPoint {
        attributes: vec![pair("stage", Value::StringValue("queue".into()))],
        start_time_unix_nano: 5,
        time_unix_nano: 6,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    let metric = |name: &str, data| Metric {
        name: name.to_owned(),
        description: "A number.".into(),
        unit: "By".into(),
        data: Some(data),
        ..Metric::default()
    };
    let sum = Sum {
        data_points: vec![
            point(number_data_point::Value::AsInt(0)),
            point(number_data_point::Value::AsDouble(1.25)),
        ],
        aggregation_temporality: 2,
        is_monotonic: true,
    };
    let up_down = Sum {
        is_monotonic: false,
        ..sum.clone()
    };
    let gauge = Gauge {
        data_points: vec![NumberDataPoint {
            flags: 1,
            ..point(number_data_point::Value::AsDouble(0.0))
        }],
    };
    let histogram = Histogram {
        data_points: vec![HistogramDataPoint {
            time_unix_nano: 6,
            count: 3,
            sum: Some(0.0),
            bucket_counts: vec![0, 3, 0],
            explicit_bounds: vec![0.005, 1.0],
            ..HistogramDataPoint::default()
        }],
        aggregation_temporality: 1,
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(),
            scope_metrics: vec![ScopeMetrics {
                scope: scope(),
                metrics: vec![
                    metric("a.sum", Data::Sum(sum)),
                    metric("an.up_down", Data::Sum(up_down)),
                    metric("a.gauge", Data::Gauge(gauge)),
                    metric("a.histogram", Data::Histogram(histogram)),
                ],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

fn encoded(signal: Signal, message: &impl Message) -> Result<String> {
    let request = Request {
        signal,
        body: Bytes::from(message.encode_to_vec()),
        items: 1,
    };
    Ok(json_lines::encode(&request)? + "\n")
}

#[tokio::test]
#[ignore = "needs the Collector, which cargo xtask setup builds"]
async fn our_lines_are_those_of_the_collectors_file_exporter() -> Result<()> {
    let collector = Collector::start()?;
    LogsServiceClient::connect(collector.endpoint())
        .await?
        .export(logs())
        .await?;
    MetricsServiceClient::connect(collector.endpoint())
        .await?
        .export(metrics())
        .await?;
    for (file, ours) in [
        ("logs.jsonl", encoded(Signal::Logs, &logs())?),
        ("metrics.jsonl", encoded(Signal::Metrics, &metrics())?),
    ] {
        let theirs = wait::until("the line is written", || {
            let text = collector.text(file);
            text.ends_with('\n').then_some(text)
        })?;
        assert_eq!(ours, theirs, "{file}");
    }
    Ok(())
}
