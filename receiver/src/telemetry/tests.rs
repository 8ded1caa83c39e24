//! Own logs and metrics arrive at a real gRPC server, with the own resource and the data's headers.

use std::sync::Mutex;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::*;
use crate::export::options::Headers;
use netflume_core::ledger::{Ledgers, Stage};

#[derive(Clone, Default)]
struct Collector {
    logs: Arc<Mutex<Vec<(MetadataMap, ExportLogsServiceRequest)>>>,
    metrics: Arc<Mutex<Vec<(MetadataMap, ExportMetricsServiceRequest)>>>,
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let headers = request.metadata().clone();
        self.logs
            .lock()
            .unwrap()
            .push((headers, request.into_inner()));
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let headers = request.metadata().clone();
        self.metrics
            .lock()
            .unwrap()
            .push((headers, request.into_inner()));
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// A listening collector, and options that lead to it.
async fn collector() -> (Collector, ExporterOptions) {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let logs = LogsServiceServer::new(collector.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let metrics = MetricsServiceServer::new(collector.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(logs)
            .add_service(metrics)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let mut options = ExporterOptions::default();
    options.for_all(|signal| {
        signal.endpoint = Some(endpoint.clone());
        signal.headers = Headers::from([("x-tenant", "shop")]);
    });
    (collector, options)
}

fn export(options: &ExporterOptions) -> Export<'_> {
    Export {
        options,
        interval: Duration::from_secs(3600),
        temporality: Temporality::Cumulative,
    }
}

fn text_of(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    key: &str,
) -> Option<String> {
    let value = attributes
        .iter()
        .find(|pair| pair.key == key)?
        .value
        .clone()?;
    match value.value? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_metrics_arrive_with_the_own_resource_and_the_datas_headers() {
    let (collector, options) = collector().await;
    let ledgers = Arc::new(Ledgers::default());
    ledgers.of("ebpf").received(Stage::Decode, 5);
    let resource = own_resource(&ResourceVariables::default());
    let state = SelfState::new(resource.clone(), &ledgers);
    let meters = meters(&export(&options), &resource, &state).unwrap();
    let telemetry = Telemetry {
        meters,
        ..Telemetry::default()
    };
    telemetry.shutdown(Duration::from_secs(10)).await;
    let received = collector.metrics.lock().unwrap();
    let (headers, request) = received.first().unwrap();
    assert_eq!(headers.get("x-tenant").unwrap(), "shop");
    assert_eq!(headers.get_all("x-tenant").iter().count(), 1);
    let group = &request.resource_metrics[0];
    let attributes = &group.resource.as_ref().unwrap().attributes;
    assert_eq!(
        text_of(attributes, "service.name").as_deref(),
        Some("netflume")
    );
    assert_eq!(
        text_of(attributes, "telemetry.distro.name").as_deref(),
        Some("netflume")
    );
    assert_eq!(
        text_of(attributes, "telemetry.sdk.name").as_deref(),
        Some("opentelemetry")
    );
    assert!(text_of(attributes, "service.instance.id").is_some());
    let names: Vec<_> = group.scope_metrics[0]
        .metrics
        .iter()
        .map(|metric| metric.name.as_str())
        .collect();
    for name in [
        "netflume.received",
        "netflume.cpu.time",
        "netflume.memory.usage",
        "netflume.uptime",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_log_lines_arrive_and_those_of_the_libraries_do_not() {
    let (collector, options) = collector().await;
    let resource = own_resource(&ResourceVariables::default());
    let loggers = loggers(&export(&options), &resource).unwrap();
    let bridge = OpenTelemetryTracingBridge::new(loggers.as_ref().unwrap())
        .with_filter(bridged(service::Level::Info));
    {
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(bridge));
        tracing::info!(target: "netflume::test", lost = 3, "here");
        tracing::debug!(target: "netflume::test", "too fine");
        tracing::error!(target: "h2::proto", "not ours");
        tracing::error!(target: "opentelemetry_sdk", "not ours");
    }
    let telemetry = Telemetry {
        loggers,
        ..Telemetry::default()
    };
    telemetry.shutdown(Duration::from_secs(10)).await;
    let received = collector.logs.lock().unwrap();
    let records: Vec<_> = received
        .iter()
        .flat_map(|(_, request)| &request.resource_logs)
        .flat_map(|group| &group.scope_logs)
        .flat_map(|group| &group.log_records)
        .collect();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0].severity_text, "INFO");
    assert!(records[0].attributes.iter().any(|pair| pair.key == "lost"));
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_exported() {
    let options = ExporterOptions::default();
    let resource = Resource::default();
    assert!(loggers(&export(&options), &resource).unwrap().is_none());
}

#[test]
fn the_users_attributes_win_and_the_service_keeps_its_name() {
    let variables = ResourceVariables {
        attributes: vec![("host.name".to_owned(), "mine".to_owned())],
        service_name: Some("edge".to_owned()),
    };
    let resource = own_resource(&variables);
    assert!(
        resource
            .attributes
            .contains(&("service.name", Value::Text("edge".into())))
    );
    assert!(
        resource
            .attributes
            .iter()
            .all(|(key, _)| *key != "host.name")
    );
    assert_eq!(resource.extra, variables.attributes);
}

#[test]
fn the_level_comes_from_the_variables_first() {
    let shown = |variables: Variables<'_>| {
        let (filter, problem) = filter(service::Level::Debug, variables);
        (filter.to_string(), problem)
    };
    let (text, problem) = shown(&|_| None);
    assert!(
        text.contains("netflume=debug") && text.contains("warn") && problem.is_none(),
        "{text}"
    );
    assert_eq!(
        shown(&|name| (name == "NETFLUME_LOG").then(|| "trace".to_owned())).0,
        "trace"
    );
    assert_eq!(
        shown(&|name| (name == "RUST_LOG").then(|| "error".to_owned())).0,
        "error"
    );
    let (text, problem) =
        shown(&|name| (name == "NETFLUME_LOG").then(|| "netflume=loud".to_owned()));
    assert!(text.contains("netflume=debug"), "{text}");
    assert!(
        problem
            .unwrap()
            .starts_with("NETFLUME_LOG: found `netflume=loud`: ")
    );
}
