//! Series: sums, starts, ends, limits.

use super::*;
use crate::model::metrics::{Attributes, Number};
use crate::model::resource::{Resource, Value as Text};

const S: u64 = 1_000_000_000;
const BOUNDS: &[f64] = &[1.0, 2.0];
const INSTRUMENTS: &[Instrument] = &[
    instrument("counter", Kind::Counter),
    instrument("updown", Kind::UpDown),
    instrument("level", Kind::Level),
    instrument("histogram", Kind::Histogram(BOUNDS)),
];
const COUNTER: usize = 0;
const UPDOWN: usize = 1;
const LEVEL: usize = 2;
const HISTOGRAM: usize = 3;

const fn instrument(name: &'static str, kind: Kind) -> Instrument {
    Instrument {
        name,
        unit: "1",
        description: "",
        kind,
    }
}

fn set(options: Options) -> SeriesSet {
    SeriesSet::new(
        "test",
        INSTRUMENTS,
        options,
        &ResourceRef::default(),
        10 * S,
    )
}

fn resource(name: &'static str) -> ResourceRef {
    Arc::new(Resource {
        attributes: vec![("host.name", Text::Text(name.into()))],
        extra: Vec::new(),
    })
}

fn a(value: &str) -> Attributes {
    vec![("a", AttributeValue::Value(Text::Text(value.into())))]
}

/// `metric{attribute} value [start,time]` for each point, seconds; `end` for a value that means nothing.
fn told(metrics: &[ResourceMetrics]) -> Vec<String> {
    let mut lines = Vec::new();
    for of in metrics {
        for metric in &of.metrics {
            let line = |attributes: &Attributes, value: String, start: u64, time: u64| {
                let attributes: Vec<_> = attributes
                    .iter()
                    .map(|(name, value)| match value {
                        AttributeValue::Value(Text::Text(text)) => text.to_string(),
                        AttributeValue::Value(other) => format!("{other:?}"),
                        AttributeValue::Bool(value) => format!("{name}={value}"),
                    })
                    .collect();
                format!(
                    "{}{{{}}} {value} [{},{}]",
                    metric.name,
                    attributes.join(","),
                    start / S,
                    time / S
                )
            };
            match &metric.data {
                Data::Sum { points, .. } => lines.extend(points.iter().map(|p| {
                    let value = match (p.no_recorded_value, p.value) {
                        (true, _) => "end".to_owned(),
                        (false, Number::Int(value)) => value.to_string(),
                        (false, Number::Double(value)) => value.to_string(),
                    };
                    line(&p.attributes, value, p.start_unix_ns, p.unix_ns)
                })),
                Data::Histogram { points, .. } => lines.extend(points.iter().map(|p| {
                    let value = if p.no_recorded_value {
                        "end".to_owned()
                    } else {
                        format!("{:?}={}", p.bucket_counts, p.sum)
                    };
                    line(&p.attributes, value, p.start_unix_ns, p.unix_ns)
                })),
                Data::Gauge(_) => panic!("no gauges here"),
            }
        }
    }
    lines
}

#[test]
fn a_cumulative_series_starts_at_the_collection_before_it() {
    let mut set = set(Options::default());
    let host = ResourceRef::default();
    set.add(&host, COUNTER, &a("x"), 3);
    assert_eq!(told(&set.collect(20 * S)), ["counter{x} 3 [10,20]"]);
    set.add(&host, COUNTER, &a("x"), 4);
    set.add(&host, COUNTER, &a("y"), 1);
    assert_eq!(
        told(&set.collect(30 * S)),
        ["counter{x} 7 [10,30]", "counter{y} 1 [20,30]"]
    );
    assert_eq!(set.collect(40 * S).len(), 1, "told also when unchanged");
}

#[test]
fn delta_windows_of_a_series_join() {
    let mut set = set(Options {
        temporality: Temporality::Delta,
        ..Options::default()
    });
    let host = ResourceRef::default();
    set.add(&host, COUNTER, &a("x"), 3);
    set.add(&host, UPDOWN, &a("x"), 3);
    assert_eq!(
        told(&set.collect(20 * S)),
        ["counter{x} 3 [10,20]", "updown{x} 3 [10,20]"]
    );
    set.add(&host, UPDOWN, &a("x"), -1);
    assert_eq!(
        told(&set.collect(30 * S)),
        ["updown{x} 2 [10,30]"],
        "nothing changed, so no delta; up-down sums stay cumulative"
    );
    set.add(&host, COUNTER, &a("x"), 4);
    assert_eq!(told(&set.collect(40 * S))[0], "counter{x} 4 [20,40]");
}

#[test]
fn totals_go_on_whatever_is_collected() {
    let host = ResourceRef::default();
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let mut set = set(Options {
            temporality,
            ttl_ns: 30 * S,
            ..Options::default()
        });
        set.add(&host, COUNTER, &a("x"), 3);
        set.record(&host, HISTOGRAM, &a("x"), 1.0);
        set.collect(20 * S);
        set.add(&host, COUNTER, &a("x"), 4);
        set.add(&host, UPDOWN, &a("x"), 2);
        set.record(&host, HISTOGRAM, &a("x"), 5.0);
        // In the middle of an interval as at its end.
        for now in [25 * S, 30 * S] {
            let end = now / S;
            assert_eq!(
                told(&set.totals(now)),
                [
                    format!("counter{{x}} 7 [10,{end}]"),
                    format!("updown{{x}} 2 [20,{end}]"),
                    format!("histogram{{x}} [1, 0, 1]=6 [10,{end}]"),
                ],
                "{temporality:?}"
            );
            set.collect(30 * S);
        }
        set.collect(60 * S);
        assert_eq!(told(&set.totals(61 * S)), Vec::<String>::new());
    }
}

#[test]
fn a_level_is_what_was_added_since_the_last_collection() {
    let mut set = set(Options::default());
    let host = ResourceRef::default();
    set.add(&host, LEVEL, &a("x"), 2);
    set.add(&host, LEVEL, &a("x"), 3);
    assert_eq!(told(&set.collect(20 * S)), ["level{x} 5 [10,20]"]);
    assert_eq!(told(&set.collect(30 * S)), ["level{x} 0 [10,30]"]);
}

#[test]
fn values_fall_into_the_bucket_whose_bound_includes_them() {
    let mut set = set(Options::default());
    let host = ResourceRef::default();
    for value in [0.5, 1.0, 1.5, 9.0] {
        set.record(&host, HISTOGRAM, &a("x"), value);
    }
    set.add_histogram(&host, HISTOGRAM, &a("x"), [0, 0, 2], 8.0);
    assert_eq!(
        told(&set.collect(20 * S)),
        ["histogram{x} [2, 1, 3]=20 [10,20]"]
    );
}

#[test]
fn a_quiet_series_ends_once_and_starts_anew() {
    let mut set = set(Options {
        ttl_ns: 20 * S,
        ..Options::default()
    });
    let host = ResourceRef::default();
    set.add(&host, COUNTER, &a("x"), 3);
    set.add(&host, COUNTER, &a("y"), 1);
    set.record(&host, HISTOGRAM, &a("x"), 1.0);
    set.collect(20 * S);
    set.add(&host, COUNTER, &a("y"), 1);
    set.collect(30 * S);
    assert_eq!(
        told(&set.collect(40 * S)),
        [
            "counter{y} 2 [10,40]",
            "counter{x} end [10,40]",
            "histogram{x} end [10,40]"
        ],
        "ends are last"
    );
    assert_eq!(set.len(), 1);
    set.add(&host, COUNTER, &a("x"), 5);
    assert!(told(&set.collect(50 * S)).contains(&"counter{x} 5 [40,50]".to_owned()));
}

#[test]
fn beyond_the_limit_one_series_more_keeps_the_totals() {
    let mut set = set(Options {
        limit: 2,
        ..Options::default()
    });
    let (host, other) = (ResourceRef::default(), resource("other"));
    for name in ["x", "y", "z", "x", "w"] {
        set.add(&host, COUNTER, &a(name), 1);
    }
    set.add(&other, COUNTER, &a("z"), 1);
    assert_eq!(
        told(&set.collect(20 * S)),
        [
            "counter{x} 2 [10,20]",
            "counter{y} 1 [10,20]",
            "counter{otel.metric.overflow=true} 2 [10,20]",
            "counter{z} 1 [10,20]"
        ]
    );
    assert_eq!(set.overflowed(), 2);
}

#[test]
fn beyond_the_total_the_rest_of_each_instrument_is_one_series_of_the_first_resource() {
    let mut set = set(Options {
        max_series: 3,
        ..Options::default()
    });
    let processes: Vec<_> = (0..2000).map(|_| resource("p")).collect();
    let names = ["a", "b", "c"].map(resource);
    for (n, of) in names.iter().enumerate() {
        set.add(of, COUNTER, &a("x"), 1);
        set.add(of, UPDOWN, &a(&n.to_string()), 1);
    }
    for process in &processes {
        set.add(process, COUNTER, &a("y"), 1);
    }
    // A series that is there goes on.
    set.add(&names[0], COUNTER, &a("x"), 1);
    assert_eq!(
        told(&set.collect(20 * S)),
        [
            "counter{otel.metric.overflow=true} 2001 [10,20]",
            "updown{otel.metric.overflow=true} 2 [10,20]",
            "counter{x} 2 [10,20]",
            "updown{0} 1 [10,20]",
            "counter{x} 1 [10,20]",
        ]
    );
    assert_eq!((set.len(), set.overflowed()), (5, 2003));
    assert_eq!(
        set.resources.len(),
        3,
        "no resource without a series of its own"
    );
}

#[test]
fn room_that_becomes_free_is_used_again() {
    let mut set = set(Options {
        max_series: 1,
        ttl_ns: 20 * S,
        ..Options::default()
    });
    let host = ResourceRef::default();
    set.add(&host, COUNTER, &a("x"), 1);
    set.collect(20 * S);
    set.add(&host, COUNTER, &a("y"), 1);
    set.collect(40 * S);
    set.collect(60 * S);
    assert_eq!(set.len(), 0);
    set.add(&host, COUNTER, &a("y"), 1);
    assert_eq!(told(&set.collect(70 * S)), ["counter{y} 1 [60,70]"]);
}

#[test]
fn resources_beyond_the_limit_are_told_under_the_first() {
    let mut set = set(Options {
        max_resources: 2,
        ..Options::default()
    });
    for name in ["a", "b", "c"] {
        set.add(&resource(name), COUNTER, &a(name), 1);
    }
    assert_eq!(
        told(&set.collect(20 * S)),
        [
            "counter{otel.metric.overflow=true} 2 [10,20]",
            "counter{a} 1 [10,20]"
        ]
    );
}

#[test]
fn equal_resources_are_one_and_empty_ones_are_forgotten() {
    let mut set = set(Options {
        ttl_ns: 15 * S,
        ..Options::default()
    });
    for _ in 0..100 {
        set.add(&resource("x"), COUNTER, &a("x"), 1);
    }
    assert_eq!(told(&set.collect(20 * S)), ["counter{x} 100 [10,20]"]);
    assert_eq!(set.resources.len(), 2);
    set.collect(40 * S);
    assert_eq!((set.resources.len(), set.by_address.len()), (1, 1));
}

#[test]
fn an_instrument_of_another_kind_takes_nothing() {
    let mut set = set(Options::default());
    let host = ResourceRef::default();
    set.add(&host, 99, &a("x"), 1);
    set.record(&host, COUNTER, &a("x"), 1.0);
    assert_eq!(told(&set.collect(20 * S)), Vec::<String>::new());
}

fn sums(metrics: &[ResourceMetrics]) -> Vec<i64> {
    let mut sums = Vec::new();
    for metric in metrics.iter().flat_map(|of| &of.metrics) {
        let Data::Sum { points, .. } = &metric.data else {
            continue;
        };
        sums.extend(points.iter().filter_map(|point| match point.value {
            Number::Int(value) => Some(value),
            Number::Double(_) => None,
        }));
    }
    sums
}

proptest::proptest! {
    /// Whatever the limits and however often it is collected, the sums are those that were added, also in the totals.
    #[test]
    fn totals_are_kept(
        changes in proptest::collection::vec((0_u8..4, 0_u8..9, 0_i64..100, proptest::bool::ANY), 0..200),
        limit in 1_usize..6,
        max_series in 0_usize..12,
        delta in proptest::bool::ANY,
    ) {
        let temporality = if delta { Temporality::Delta } else { Temporality::Cumulative };
        let mut set = set(Options { limit, max_series, max_resources: 3, temporality, ttl_ns: u64::MAX });
        let resources = ["a", "b", "c", "d"].map(resource);
        let (mut added, mut told, mut now) = (0, 0, 20 * S);
        let mut collect = |set: &mut SeriesSet| {
            now += S;
            let sum: i64 = sums(&set.collect(now)).into_iter().sum();
            told = if delta { told + sum } else { sum };
            let totals: i64 = sums(&set.totals(now)).into_iter().sum();
            // Beside the limit there may be one series of the rest for each instrument, and for each resource that has one.
            assert!(set.len() <= max_series + 3, "{} series", set.len());
            (told, totals)
        };
        for (of, name, change, collects) in changes {
            added += change;
            set.add(&resources[usize::from(of)], COUNTER, &a(&name.to_string()), change);
            if collects {
                proptest::prop_assert_eq!(collect(&mut set), (added, added));
            }
        }
        proptest::prop_assert_eq!(collect(&mut set), (added, added));
    }
}
