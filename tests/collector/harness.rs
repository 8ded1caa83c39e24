//! The Collector itself: what it is sent is what is read back.

use anyhow::Result;
use netflume_tests::collector::Collector;
use netflume_tests::wait;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, KeyValueList, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use serde_json::json;

fn record(number: i64) -> ExportLogsServiceRequest {
    let value = AnyValue {
        value: Some(Value::IntValue(number)),
    };
    let field = KeyValue {
        key: "number".into(),
        value: Some(value),
        ..KeyValue::default()
    };
    let body = Value::KvlistValue(KeyValueList {
        values: vec![field],
    });
    let record = LogRecord {
        event_name: "check".into(),
        body: Some(AnyValue { value: Some(body) }),
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs {
        log_records: vec![record],
        ..ScopeLogs::default()
    }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs,
            ..ResourceLogs::default()
        }],
    }
}

#[tokio::test]
#[ignore = "needs the Collector, which cargo xtask setup builds"]
async fn what_the_collector_accepts_is_read_back_also_after_a_restart() -> Result<()> {
    let mut collector = Collector::start()?;
    let bodies = |collector: &Collector| -> Vec<_> {
        let logs = collector.logs().unwrap_or_default();
        logs.into_iter()
            .map(|log| (log.event_name, log.body))
            .collect()
    };
    let expected = |number: i64| ("check".to_owned(), json!({"number": number}));
    LogsServiceClient::connect(collector.endpoint())
        .await?
        .export(record(1))
        .await?;
    wait::until("the first record is written", || {
        (bodies(&collector) == [expected(1)]).then_some(())
    })?;

    collector.stop()?;
    assert!(
        LogsServiceClient::connect(collector.endpoint())
            .await
            .is_err()
    );

    collector.restart()?;
    LogsServiceClient::connect(collector.endpoint())
        .await?
        .export(record(2))
        .await?;
    wait::until("the second record is written after the first", || {
        (bodies(&collector) == [expected(1), expected(2)]).then_some(())
    })
}

#[test]
#[ignore = "needs the Collector, which cargo xtask setup builds"]
fn every_configuration_is_valid() -> Result<()> {
    let program = xtask::partner::COLLECTOR.program()?;
    let mut configurations = 0;
    for entry in std::fs::read_dir(xtask::cache::root().join("otelcol-config"))? {
        let path = entry?.path();
        let is_manifest = path.file_name().is_some_and(|name| name == "builder.yaml");
        if is_manifest || path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let mut command = std::process::Command::new(&program);
        xtask::run::output(command.arg("validate").arg("--config").arg(path))?;
        configurations += 1;
    }
    assert!(configurations >= 3);
    Ok(())
}
