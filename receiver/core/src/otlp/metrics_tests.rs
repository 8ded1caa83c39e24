//! What the metrics say, read back with the independent decoder.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Wire};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar as WireExemplar, Gauge, Histogram, HistogramDataPoint, Metric as WireMetric,
    NumberDataPoint, Sum, exemplar::Value as WireExemplarValue, metric::Data as WireData,
    number_data_point::Value as WireNumber,
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::model::resource::{Resource, Value};

const BOUNDS: &[f64] = &[0.001, 0.01, 0.1];

fn attributes_strategy() -> impl Strategy<Value = Attributes> {
    (".{0,20}", any::<i64>(), any::<bool>()).prop_map(|(text, int, overflow)| {
        vec![
            (
                "network.transport",
                AttributeValue::Value(Value::Text(text.into())),
            ),
            ("otel.metric.overflow", AttributeValue::Bool(overflow)),
            ("server.port", AttributeValue::Value(Value::Int(int))),
        ]
    })
}

prop_compose! {
    fn exemplar()(
        attributes in attributes_strategy(),
        unix_ns: u64,
        value in -1e9..1e9,
        trace_id: [u8; 16],
        span_id: [u8; 8],
    ) -> Exemplar {
        Exemplar { attributes, unix_ns, value, trace_id, span_id }
    }
}

prop_compose! {
    fn number_point()(
        attributes in attributes_strategy(),
        start_unix_ns: u64,
        unix_ns: u64,
        value in prop_oneof![any::<i64>().prop_map(Number::Int), (-1e9..1e9).prop_map(Number::Double)],
        exemplars in prop::collection::vec(exemplar(), 0..2),
        no_recorded_value: bool,
    ) -> NumberPoint {
        NumberPoint { attributes, start_unix_ns, unix_ns, value, exemplars, no_recorded_value }
    }
}

prop_compose! {
    fn histogram_point()(
        attributes in attributes_strategy(),
        start_unix_ns: u64,
        unix_ns: u64,
        bucket_counts in prop::collection::vec(0u64..1 << 40, BOUNDS.len() + 1),
        sum in 0.0..1e9,
        exemplars in prop::collection::vec(exemplar(), 0..4),
        no_recorded_value: bool,
    ) -> HistogramPoint {
        HistogramPoint { attributes, start_unix_ns, unix_ns, bucket_counts, sum, exemplars, no_recorded_value }
    }
}

fn data() -> impl Strategy<Value = Data> {
    let temporality = prop_oneof![Just(Temporality::Cumulative), Just(Temporality::Delta)];
    let numbers = || prop::collection::vec(number_point(), 0..8);
    prop_oneof![
        numbers().prop_map(Data::Gauge),
        (any::<bool>(), temporality.clone(), numbers()).prop_map(
            |(monotonic, temporality, points)| Data::Sum {
                monotonic,
                temporality,
                points
            }
        ),
        (temporality, prop::collection::vec(histogram_point(), 0..8)).prop_map(
            |(temporality, points)| {
                Data::Histogram {
                    temporality,
                    bounds: BOUNDS,
                    points,
                }
            }
        ),
    ]
}

fn wire_attributes(attributes: &Attributes) -> Vec<KeyValue> {
    let value = |value: &AttributeValue| match value {
        AttributeValue::Value(Value::Text(text)) => Wire::StringValue(text.to_string()),
        AttributeValue::Value(Value::Int(int)) => Wire::IntValue(*int),
        AttributeValue::Value(Value::List(_)) => panic!("no lists on points"),
        AttributeValue::Bool(truth) => Wire::BoolValue(*truth),
    };
    let pair = |(key, v): &(&'static str, AttributeValue)| KeyValue {
        key: (*key).into(),
        value: Some(AnyValue {
            value: Some(value(v)),
        }),
        ..KeyValue::default()
    };
    attributes.iter().map(pair).collect()
}

fn wire_exemplars(exemplars: &[Exemplar]) -> Vec<WireExemplar> {
    let wire = |exemplar: &Exemplar| WireExemplar {
        filtered_attributes: wire_attributes(&exemplar.attributes),
        time_unix_nano: exemplar.unix_ns,
        value: Some(WireExemplarValue::AsDouble(exemplar.value)),
        span_id: exemplar.span_id.to_vec(),
        trace_id: exemplar.trace_id.to_vec(),
    };
    exemplars.iter().map(wire).collect()
}

fn wire_number(point: &NumberPoint) -> NumberDataPoint {
    let value = match point.value {
        Number::Int(value) => WireNumber::AsInt(value),
        Number::Double(value) => WireNumber::AsDouble(value),
    };
    NumberDataPoint {
        attributes: wire_attributes(&point.attributes),
        start_time_unix_nano: point.start_unix_ns,
        time_unix_nano: point.unix_ns,
        value: (!point.no_recorded_value).then_some(value),
        exemplars: match point.no_recorded_value {
            true => Vec::new(),
            false => wire_exemplars(&point.exemplars),
        },
        flags: u32::from(point.no_recorded_value),
    }
}

fn wire_histogram(point: &HistogramPoint) -> HistogramDataPoint {
    let frame = HistogramDataPoint {
        attributes: wire_attributes(&point.attributes),
        start_time_unix_nano: point.start_unix_ns,
        time_unix_nano: point.unix_ns,
        flags: u32::from(point.no_recorded_value),
        ..HistogramDataPoint::default()
    };
    if point.no_recorded_value {
        return frame;
    }
    HistogramDataPoint {
        count: point.bucket_counts.iter().sum(),
        sum: Some(point.sum),
        bucket_counts: point.bucket_counts.clone(),
        explicit_bounds: BOUNDS.to_vec(),
        exemplars: wire_exemplars(&point.exemplars),
        ..frame
    }
}

/// One wire metric a point, living ones first: the normal form in which both sides are compared.
fn expected(metric: &Metric) -> Vec<WireMetric> {
    let wrap = |data| WireMetric {
        name: metric.name.into(),
        description: metric.description.into(),
        unit: metric.unit.into(),
        data: Some(data),
        ..WireMetric::default()
    };
    let code = |temporality: Temporality| {
        if temporality == Temporality::Delta {
            1
        } else {
            2
        }
    };
    let mut out: Vec<(bool, WireMetric)> = match &metric.data {
        Data::Gauge(points) => points
            .iter()
            .map(|p| {
                (
                    p.no_recorded_value,
                    WireData::Gauge(Gauge {
                        data_points: vec![wire_number(p)],
                    }),
                )
            })
            .map(|(ends, data)| (ends, wrap(data)))
            .collect(),
        Data::Sum {
            monotonic,
            temporality,
            points,
        } => points
            .iter()
            .map(|p| {
                let sum = Sum {
                    data_points: vec![wire_number(p)],
                    aggregation_temporality: code(*temporality),
                    is_monotonic: *monotonic,
                };
                (p.no_recorded_value, wrap(WireData::Sum(sum)))
            })
            .collect(),
        Data::Histogram {
            temporality,
            points,
            ..
        } => points
            .iter()
            .map(|p| {
                let histogram = Histogram {
                    data_points: vec![wire_histogram(p)],
                    aggregation_temporality: code(*temporality),
                };
                (p.no_recorded_value, wrap(WireData::Histogram(histogram)))
            })
            .collect(),
    };
    out.sort_by_key(|(ends, _)| *ends);
    out.into_iter().map(|(_, metric)| metric).collect()
}

/// The same normal form of what was written.
fn single_points(metric: &WireMetric) -> Vec<WireMetric> {
    let with = |data| WireMetric {
        data: Some(data),
        ..metric.clone()
    };
    match metric.data.clone().unwrap() {
        WireData::Gauge(gauge) => gauge
            .data_points
            .into_iter()
            .map(|p| {
                with(WireData::Gauge(Gauge {
                    data_points: vec![p],
                }))
            })
            .collect(),
        WireData::Sum(sum) => {
            let single = |p| Sum {
                data_points: vec![p],
                ..sum.clone()
            };
            sum.data_points
                .clone()
                .into_iter()
                .map(|p| with(WireData::Sum(single(p))))
                .collect()
        }
        WireData::Histogram(histogram) => {
            let single = |p| Histogram {
                data_points: vec![p],
                ..histogram.clone()
            };
            let points = histogram.data_points.clone().into_iter();
            points
                .map(|p| with(WireData::Histogram(single(p))))
                .collect()
        }
        other => panic!("not ours: {other:?}"),
    }
}

fn metrics(data: Vec<Data>) -> ResourceMetrics {
    let metric = |data| Metric {
        name: "network.flow.io",
        unit: "By",
        description: "Payload bytes.",
        data,
    };
    ResourceMetrics {
        resource: Arc::new(Resource {
            attributes: vec![("service.name", Value::Text("shop".into()))],
            extra: vec![],
        }),
        scope: "netflume.netflow",
        metrics: data.into_iter().map(metric).collect(),
    }
}

proptest! {
    #[test]
    fn every_point_arrives_as_it_was_whatever_the_size_of_requests(
        data in prop::collection::vec(data(), 0..6),
        max_request_bytes in 200usize..20_000,
    ) {
        let metrics = metrics(data);
        let mut encoder = MetricsEncoder::new(MetricsOptions { max_request_bytes });
        let mut requests = encoder.push(&metrics);
        requests.extend(encoder.finish());
        let mut seen = Vec::new();
        for request in requests {
            prop_assert_eq!(request.signal, Signal::Metrics);
            let decoded = ExportMetricsServiceRequest::decode(request.body.clone()).unwrap();
            let before = seen.len();
            let mut messages = 0;
            for scope in decoded.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics) {
                for metric in scope.metrics {
                    messages += 1;
                    seen.extend(single_points(&metric));
                }
            }
            prop_assert_eq!((seen.len() - before) as u64, request.items);
            prop_assert!(request.body.len() <= max_request_bytes || messages == 1);
        }
        let expected: Vec<_> = metrics.metrics.iter().flat_map(expected).collect();
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn a_series_that_ends_stands_alone_behind_the_living_ones() {
    let point = |value, no_recorded_value| NumberPoint {
        attributes: vec![],
        start_unix_ns: 1,
        unix_ns: 2,
        value: Number::Int(value),
        exemplars: Vec::new(),
        no_recorded_value,
    };
    let data = Data::Sum {
        monotonic: true,
        temporality: Temporality::Cumulative,
        points: vec![
            point(1, false),
            point(2, true),
            point(3, false),
            point(4, true),
        ],
    };
    let mut encoder = MetricsEncoder::new(MetricsOptions::default());
    assert!(encoder.push(&metrics(vec![data])).is_empty());
    let request = encoder.finish().unwrap();
    let decoded = ExportMetricsServiceRequest::decode(request.body).unwrap();
    let written = &decoded.resource_metrics[0].scope_metrics[0].metrics;
    let points: Vec<Vec<_>> = written
        .iter()
        .map(|metric| match metric.data.as_ref().unwrap() {
            WireData::Sum(sum) => sum.data_points.iter().map(|p| (p.flags, p.value)).collect(),
            other => panic!("not a sum: {other:?}"),
        })
        .collect();
    let living = |value| (0, Some(WireNumber::AsInt(value)));
    assert_eq!(
        points,
        [vec![living(1), living(3)], vec![(1, None)], vec![(1, None)]]
    );
}
