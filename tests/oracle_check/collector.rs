//! Hubble's metrics through a real Collector, as its Prometheus exporter shows them: the same page that Hubble's own registry gives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netflume::export::exporter::Exporter;
use netflume::export::options::ExporterOptions;
use netflume_core::aggregate::hubble::{HubbleMetrics, HubbleOptions, MetricOptions};
use netflume_core::model::resource::{Resource, ResourceRef, Value};
use netflume_core::otlp::metrics::{MetricsEncoder, MetricsOptions};
use netflume_core::semconv::resource;
use netflume_tests::collector::Collector;
use netflume_tests::{http, wait};

use super::metrics::{compare, counted, flows};
use super::{decoded, differences, fixtures, world};

/// What the exporter puts on every series; see `otelcol-config/hubble.yaml`.
const ADDED: [&str; 2] = ["instance=\"one\"", "job=\"netflume\""];

/// Takes a label off a series.
fn without(line: &str, label: &str) -> Option<String> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once('}')?;
    let (before, after) = labels.split_once(label)?;
    let labels = match (before.strip_suffix(','), after.strip_prefix(',')) {
        (_, Some(after)) => format!("{before}{after}"),
        (Some(before), None) => before.to_owned(),
        (None, None) => return Some(format!("{name}{value}")),
    };
    Some(format!("{name}{{{labels}}}{value}"))
}

/// The `# TYPE` lines of these metrics. (Their descriptions are our own.)
fn types<'a>(text: &'a str, names: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    let of = |line: &&str| {
        let words = line
            .strip_prefix("# TYPE ")
            .and_then(|words| words.split_once(' '));
        words.is_some_and(|(name, _)| names.contains(name))
    };
    text.lines().filter(of).collect()
}

#[tokio::test]
#[ignore = "needs the Collector, which cargo xtask setup builds"]
async fn a_collector_shows_hubbles_own_page_for_every_plugin() -> Result<()> {
    let directory = world::directory();
    let table = differences::table()?;
    let own = || -> ResourceRef {
        let text = |value: &str| Value::Text(value.into());
        Arc::new(Resource {
            attributes: vec![
                (resource::SERVICE_INSTANCE_ID, text("one")),
                (resource::SERVICE_NAME, text("netflume")),
            ],
            ..Resource::default()
        })
    };
    let mut problems = String::new();
    for release in fixtures::RELEASES {
        let node = decoded::node(release);
        let flows = flows(&directory, release)?;
        for (name, config, text) in fixtures::metrics(release)? {
            let mut metrics = HubbleMetrics::new(&HubbleOptions {
                metrics: config
                    .split_whitespace()
                    .map(MetricOptions::parse)
                    .collect(),
                series_limit: usize::MAX,
            })?;
            flows.iter().for_each(|flow| metrics.observe(flow, &node));
            let points = metrics
                .export(&own(), now())
                .context("nothing was counted")?;

            let collector = Collector::with("hubble")?;
            let mut options = ExporterOptions::default();
            options.for_all(|signal| signal.endpoint = Some(collector.endpoint()));
            let exporter = Exporter::start(&options)?;
            let mut encoder = MetricsEncoder::new(MetricsOptions::default());
            let requests = encoder.push(&points);
            let ledger = Arc::default();
            for request in requests.into_iter().chain(encoder.finish()) {
                exporter.push(request, &ledger);
            }
            ensure!(exporter.shutdown(Some(Duration::from_secs(30))).await == 0);

            let address = collector.prometheus();
            let page = tokio::task::spawn_blocking(move || {
                wait::until("the metrics are on the page", || {
                    let page = http::get(address, "/metrics").ok()?;
                    page.contains("\nhubble_").then_some(page)
                })
            })
            .await??;
            let mut shown = String::new();
            for line in page.lines() {
                let bare = match line {
                    // Its labels are those of the resource.
                    line if line.contains("target_info") => continue,
                    line if line.starts_with('#') => line.to_owned(),
                    line => ADDED.iter().try_fold(line.to_owned(), |line, label| {
                        without(&line, label).with_context(|| format!("no {label} on {line}"))
                    })?,
                };
                shown.push_str(&bare);
                shown.push('\n');
            }
            let what = format!("{release}/{name}");
            let hubble = counted(&text, release, &table)?;
            ensure!(!hubble.is_empty(), "{what}: nothing to compare");
            compare(
                &what,
                &hubble,
                &counted(&shown, release, &table)?,
                &mut problems,
            );
            // A metric of which all series are listed as different need not be there.
            let names: BTreeSet<_> = hubble.keys().map(|series| family(series)).collect();
            let (ours, theirs) = (types(&shown, &names), types(&text, &names));
            if ours != theirs {
                problems.push_str(&format!("{what}: {ours:#?}, Hubble's {theirs:#?}\n"));
            }
        }
    }
    ensure!(problems.is_empty(), "{problems}");
    Ok(())
}

/// The metric of a series: a histogram has three.
fn family(series: &str) -> &str {
    let name = series.split('{').next().unwrap_or_default();
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(name)
}

fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
