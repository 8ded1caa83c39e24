//! A request that the receiver found too large, to its two halves. Rare, so it goes through the decoded messages.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, ResourceMetrics, ScopeMetrics, metric::Data,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use netflume_core::model::request::{Request, Signal};

/// The two halves, by items. None when there is only one item, or the bytes make no sense.
pub(crate) fn halves(request: &Request) -> Option<(Request, Request)> {
    let body = request.body.clone();
    let (a, b) = match request.signal {
        Signal::Logs => encoded(logs(ExportLogsServiceRequest::decode(body).ok()?)?),
        Signal::Metrics => encoded(metrics(ExportMetricsServiceRequest::decode(body).ok()?)?),
        Signal::Traces => encoded(traces(ExportTraceServiceRequest::decode(body).ok()?)?),
    };
    let half = |(body, items)| Request {
        signal: request.signal,
        body,
        items,
    };
    Some((half(a), half(b)))
}

type Half<T> = (T, u64);

fn encoded<T: Message>((a, b): (Half<T>, Half<T>)) -> (Half<bytes::Bytes>, Half<bytes::Bytes>) {
    (
        (a.0.encode_to_vec().into(), a.1),
        (b.0.encode_to_vec().into(), b.1),
    )
}

/// What a request counts: records, spans, or metrics, which hold several points each.
trait Item: Sized {
    fn count(&self) -> u64;
    /// The first `n` of what it counts, and the rest; `n` is less than the count.
    fn divide(self, n: u64) -> (Option<Self>, Option<Self>);
}

macro_rules! one_item {
    ($($item:ty),*) => {$(
        impl Item for $item {
            fn count(&self) -> u64 { 1 }
            fn divide(self, _: u64) -> (Option<Self>, Option<Self>) { (None, Some(self)) }
        }
    )*};
}
one_item!(LogRecord, Span);

macro_rules! with_points {
    ($metric:ident, $points:ident, $with:expr, $none:expr) => {
        match &mut $metric.data {
            Some(Data::Gauge(data)) => {
                let $points = &mut data.data_points;
                $with
            }
            Some(Data::Sum(data)) => {
                let $points = &mut data.data_points;
                $with
            }
            Some(Data::Histogram(data)) => {
                let $points = &mut data.data_points;
                $with
            }
            Some(Data::ExponentialHistogram(data)) => {
                let $points = &mut data.data_points;
                $with
            }
            Some(Data::Summary(data)) => {
                let $points = &mut data.data_points;
                $with
            }
            None => $none,
        }
    };
}

impl Item for Metric {
    fn count(&self) -> u64 {
        let mut metric = self.clone();
        with_points!(metric, points, points.len() as u64, 0)
    }

    fn divide(self, n: u64) -> (Option<Self>, Option<Self>) {
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        if n == 0 {
            return (None, Some(self));
        }
        let (mut first, mut rest) = (self.clone(), self);
        with_points!(first, points, points.truncate(n), ());
        with_points!(rest, points, drop(points.drain(..n.min(points.len()))), ());
        (Some(first), Some(rest))
    }
}

/// The two halves of a request; the frame around the items is the same in both.
macro_rules! split {
    ($name:ident, $request:ident, $resources:ident, $resource:ident, $scopes:ident, $scope:ident, $items:ident) => {
        fn $name(request: $request) -> Option<(Half<$request>, Half<$request>)> {
            let scopes = || {
                request
                    .$resources
                    .iter()
                    .flat_map(|resource| &resource.$scopes)
            };
            let total: u64 = scopes()
                .flat_map(|scope| &scope.$items)
                .map(Item::count)
                .sum();
            if total < 2 {
                return None;
            }
            let mut left = total / 2;
            let (mut a, mut b) = ($request::default(), $request::default());
            for resource in request.$resources {
                let frame = $resource {
                    $scopes: Vec::new(),
                    ..resource.clone()
                };
                let (mut in_a, mut in_b) = (frame.clone(), frame);
                for scope in resource.$scopes {
                    let frame = $scope {
                        $items: Vec::new(),
                        ..scope.clone()
                    };
                    let (mut first, mut rest) = (frame.clone(), frame);
                    for item in scope.$items {
                        let count = item.count();
                        if count <= left {
                            left -= count;
                            first.$items.push(item);
                        } else {
                            let (part, remainder) = item.divide(left);
                            left = 0;
                            first.$items.extend(part);
                            rest.$items.extend(remainder);
                        }
                    }
                    if !first.$items.is_empty() {
                        in_a.$scopes.push(first);
                    }
                    if !rest.$items.is_empty() {
                        in_b.$scopes.push(rest);
                    }
                }
                if !in_a.$scopes.is_empty() {
                    a.$resources.push(in_a);
                }
                if !in_b.$scopes.is_empty() {
                    b.$resources.push(in_b);
                }
            }
            Some(((a, total / 2), (b, total - total / 2)))
        }
    };
}

split!(
    logs,
    ExportLogsServiceRequest,
    resource_logs,
    ResourceLogs,
    scope_logs,
    ScopeLogs,
    log_records
);
split!(
    metrics,
    ExportMetricsServiceRequest,
    resource_metrics,
    ResourceMetrics,
    scope_metrics,
    ScopeMetrics,
    metrics
);
split!(
    traces,
    ExportTraceServiceRequest,
    resource_spans,
    ResourceSpans,
    scope_spans,
    ScopeSpans,
    spans
);
