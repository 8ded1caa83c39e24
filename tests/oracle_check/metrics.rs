//! Counts of the metric plugins, compared with those of Hubble's own.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use netflume::serve::exposition::{self, Format};
use netflume_core::aggregate::hubble::{HubbleMetrics, HubbleOptions, MetricOptions};
use netflume_core::enrich::cilium::Directory;
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::model::flow::Flow;
use netflume_core::model::resource::{Resource, ResourceRef};

use super::differences::{self, Row};
use super::{decoded, fixtures, world};

/// Series with their values, as text says them.
pub(crate) type Series = BTreeMap<String, f64>;

#[test]
fn every_plugin_counts_what_hubble_counts() -> Result<()> {
    let directory = world::directory();
    let table = differences::table()?;
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
            for flow in &flows {
                metrics.observe(flow, &node);
            }
            let own = ResourceRef::new(Resource::default());
            let points = metrics.snapshot(&own, 0).context("nothing was counted")?;
            let ours = exposition::write(&[points], &own, Format::Text);
            compare(
                &format!("{release}/{name}"),
                &counted(&text, release, &table)?,
                &counted(&ours, release, &table)?,
                &mut problems,
            );
        }
    }
    ensure!(problems.is_empty(), "{problems}");
    Ok(())
}

/// The flows of all streams of a release that the metrics count.
pub(crate) fn flows(directory: &Directory, release: &str) -> Result<Vec<Flow>> {
    let mut flows = Vec::new();
    for stream in fixtures::COUNTED {
        let events = decoded::events(directory, release, stream, true)?;
        flows.extend(events.into_iter().filter_map(|event| match event {
            Ok(CiliumEvent::Flow(flow)) => Some(flow),
            _ => None,
        }));
    }
    Ok(flows)
}

/// The series of a page, but for those that are listed as different.
pub(crate) fn counted(text: &str, release: &str, table: &[Row]) -> Result<Series> {
    let mut series = series(text)?;
    series.retain(|series, _| !table.iter().any(|row| row.covers_series(release, series)));
    Ok(series)
}

fn series(text: &str) -> Result<Series> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').context("a line without a value")?;
            Ok((sorted(series), value.parse()?))
        })
        .collect()
}

/// The labels of a series in alphabetical order. No label of the fixtures holds a quoted comma after a quote.
fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else {
        return series.to_owned();
    };
    let mut labels: Vec<&str> = labels
        .trim_end_matches('}')
        .split_inclusive("\",")
        .map(|label| label.trim_end_matches(','))
        .collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}

pub(crate) fn compare(what: &str, hubble: &Series, ours: &Series, problems: &mut String) {
    let mut count = 0;
    let mut say = |line: String| {
        count += 1;
        if count <= 12 {
            problems.push_str(&format!("{what}: {line}\n"));
        }
    };
    for (series, value) in hubble {
        match ours.get(series) {
            Some(our) if (our - value).abs() <= value.abs() * 1e-9 => {}
            Some(our) => say(format!("{series}: Hubble {value}, ours {our}")),
            None => say(format!("{series}: Hubble {value}, ours has none")),
        }
    }
    for (series, value) in ours
        .iter()
        .filter(|(series, _)| !hubble.contains_key(*series))
    {
        say(format!("{series}: Hubble has none, ours {value}"));
    }
    if count > 12 {
        problems.push_str(&format!("{what}: {} more\n", count - 12));
    }
}
