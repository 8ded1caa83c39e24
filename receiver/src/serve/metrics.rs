//! `/metrics`: what the registered parts of the program say at the moment of the scrape, as Prometheus text.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ::http::header::ACCEPT;
use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;

use crate::serve::exposition::{self, Format};
use crate::serve::http::{Answer, Handler};
use netflume_core::model::metrics::{
    AttributeValue, Data, HistogramPoint, Metric, Number, NumberPoint, ResourceMetrics, Temporality,
};
use netflume_core::model::resource::{ResourceRef, Value};
use netflume_core::semconv::hubble::metric as hubble;
use netflume_core::semconv::scope;

/// Gives cumulative metrics at the moment of the call. Called from the server's thread: it must not wait for the pipeline.
pub type Source = Arc<dyn Fn() -> Vec<ResourceMetrics> + Send + Sync>;

/// Seconds; the default buckets of Prometheus client libraries, which Hubble's own handler has.
const DURATION_BOUNDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The parts of the program that have metrics, and the handler's own books.
pub struct Registry {
    own: ResourceRef,
    sources: Mutex<Vec<(&'static str, Source)>>,
    requests: Mutex<Vec<Requests>>,
}

/// Answers with one HTTP status.
struct Requests {
    code: u16,
    bucket_counts: Vec<u64>,
    sum: f64,
}

impl Registry {
    /// `own`: the program's own resource; its metrics carry no resource labels.
    #[must_use]
    pub fn new(own: ResourceRef) -> Self {
        Self {
            own,
            sources: Mutex::default(),
            requests: Mutex::default(),
        }
    }

    /// Adds a part, or puts another one in the place of that name.
    pub fn register(&self, name: &'static str, source: Source) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|(known, _)| *known != name);
        sources.push((name, source));
    }

    /// Takes a part out.
    pub fn unregister(&self, name: &'static str) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|(known, _)| *known != name);
    }

    /// All metrics as text.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        let sources = self
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut metrics: Vec<_> = sources.iter().flat_map(|(_, source)| source()).collect();
        metrics.push(self.requests_metrics());
        exposition::write(&metrics, &self.own, format)
    }

    fn book(&self, code: u16, seconds: f64) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let at = requests
            .iter()
            .position(|entry| entry.code == code)
            .unwrap_or_else(|| {
                requests.push(Requests {
                    code,
                    bucket_counts: vec![0; DURATION_BOUNDS.len() + 1],
                    sum: 0.0,
                });
                requests.len() - 1
            });
        let entry = &mut requests[at];
        entry.bucket_counts[DURATION_BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        entry.sum += seconds;
    }

    /// Under Hubble's names, so that its dashboards show this handler too.
    fn requests_metrics(&self) -> ResourceMetrics {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let attributes = |entry: &Requests| {
            let code = AttributeValue::Value(Value::Text(entry.code.to_string().into()));
            vec![("code", code)]
        };
        let counts = |entry: &Requests| NumberPoint {
            attributes: attributes(entry),
            start_unix_ns: 0,
            unix_ns: 0,
            value: Number::Int(
                i64::try_from(entry.bucket_counts.iter().sum::<u64>()).unwrap_or(i64::MAX),
            ),
            exemplars: Vec::new(),
            no_recorded_value: false,
        };
        let durations = |entry: &Requests| HistogramPoint {
            attributes: attributes(entry),
            start_unix_ns: 0,
            unix_ns: 0,
            bucket_counts: entry.bucket_counts.clone(),
            sum: entry.sum,
            exemplars: Vec::new(),
            no_recorded_value: false,
        };
        ResourceMetrics {
            resource: self.own.clone(),
            scope: scope::SELF,
            metrics: vec![
                Metric {
                    name: hubble::HANDLER_REQUESTS,
                    unit: "",
                    description: "Requests to the metrics endpoint, by HTTP status.",
                    data: Data::Sum {
                        monotonic: true,
                        temporality: Temporality::Cumulative,
                        points: requests.iter().map(counts).collect(),
                    },
                },
                Metric {
                    name: hubble::HANDLER_REQUEST_DURATION,
                    unit: "s",
                    description: "How long answers of the metrics endpoint took, by HTTP status.",
                    data: Data::Histogram {
                        temporality: Temporality::Cumulative,
                        bounds: DURATION_BOUNDS,
                        points: requests.iter().map(durations).collect(),
                    },
                },
            ],
        }
    }
}

/// Answers `/metrics` from a [`Registry`].
pub struct MetricsHandler(pub Arc<Registry>);

impl Handler for MetricsHandler {
    fn answer(&self, path: &str, headers: &HeaderMap) -> Answer {
        let begun = Instant::now();
        if path != "/metrics" {
            return Answer::not_found("/metrics");
        }
        let format = format_for(headers);
        let answer = Answer {
            status: StatusCode::OK,
            content_type: format.content_type(),
            body: Bytes::from(self.0.render(format)),
        };
        self.0
            .book(answer.status.as_u16(), begun.elapsed().as_secs_f64());
        answer
    }
}

/// OpenMetrics where it is asked for before (or with more weight than) plain text.
fn format_for(headers: &HeaderMap) -> Format {
    let mut best = (0.0, Format::Text);
    for value in headers.get_all(ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next() {
                Some("application/openmetrics-text") => Format::OpenMetrics,
                Some("text/plain" | "text/*" | "*/*") => Format::Text,
                _ => continue,
            };
            let mut weight: f32 = 1.0;
            let mut is_known = true;
            for part in parts {
                match part.split_once('=') {
                    Some(("q", text)) => weight = text.parse().unwrap_or(0.0),
                    Some(("version", version)) => {
                        is_known = matches!(version, "0.0.4" | "0.0.1" | "1.0.0");
                    }
                    _ => {}
                }
            }
            if is_known && weight > best.0 {
                best = (weight, format);
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::http::Server;
    use crate::serve::http::tests::{exchange, get};

    fn accept(text: &str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, text.parse().unwrap());
        format_for(&headers)
    }

    #[test]
    fn openmetrics_is_given_where_it_is_asked_for() {
        assert_eq!(format_for(&HeaderMap::new()), Format::Text);
        assert_eq!(accept("*/*"), Format::Text);
        assert_eq!(
            accept(
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
            ),
            Format::OpenMetrics
        );
        assert_eq!(
            accept(
                "application/openmetrics-text;version=1.0.0;q=0.1, text/plain;version=0.0.4;q=0.9"
            ),
            Format::Text
        );
        assert_eq!(
            accept("application/vnd.google.protobuf;q=0.9"),
            Format::Text
        );
        assert_eq!(
            accept("application/openmetrics-text;version=9"),
            Format::Text
        );
    }

    #[tokio::test]
    async fn a_scrape_shows_the_sources_and_the_scrapes_before_it() {
        let registry = Arc::new(Registry::new(ResourceRef::default()));
        registry.register(
            "test",
            Arc::new(|| {
                vec![ResourceMetrics {
                    resource: ResourceRef::default(),
                    scope: "test",
                    metrics: vec![Metric {
                        name: "hubble_drop_total",
                        unit: "",
                        description: "Drops.",
                        data: Data::Sum {
                            monotonic: true,
                            temporality: Temporality::Cumulative,
                            points: vec![NumberPoint {
                                attributes: Vec::new(),
                                start_unix_ns: 0,
                                unix_ns: 0,
                                value: Number::Int(3),
                                exemplars: Vec::new(),
                                no_recorded_value: false,
                            }],
                        },
                    }],
                }]
            }),
        );
        let handler = Arc::new(MetricsHandler(registry));
        let server = Server::start("extensions.prometheus", "127.0.0.1:0", handler)
            .await
            .unwrap();
        let first = get(server.local(), "/metrics").await;
        assert!(
            first.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            "{first}"
        );
        assert!(first.contains("\nhubble_drop_total 3\n"), "{first}");
        assert!(!first.contains("handler_requests_total{"), "{first}");
        let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\nConnection: close\r\n\r\n";
        let second = exchange(server.local(), request).await;
        assert!(second.ends_with("# EOF\n"), "{second}");
        assert!(
            second.contains("\nhubble_metrics_http_handler_requests_total{code=\"200\"} 1\n"),
            "{second}"
        );
        assert!(
            second.contains("\nhubble_metrics_http_handler_request_duration_seconds_bucket{code=\"200\",le=\"+Inf\"} 1\n"),
            "{second}"
        );
        assert!(get(server.local(), "/").await.starts_with("HTTP/1.1 404 "));
    }
}
