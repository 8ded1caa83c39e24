//! The table of differences that are meant, `differences.md`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::compare::Difference;
use super::values::values;

/// One row. An empty text holds for any.
#[derive(Debug)]
pub(crate) struct Row {
    /// How the release begins.
    release: &'static str,
    stream: &'static str,
    /// Part of what the event was made to show.
    event: &'static str,
    field: &'static str,
    why: &'static str,
}

/// How the reason of a row begins that covers other words for the same values, and nothing else.
const WORDING: &str = "wording:";

/// The rows of the table.
pub(crate) fn table() -> Result<Vec<Row>> {
    let text = include_str!("differences.md");
    let rows: Vec<Row> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2) // the head and the line under it
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let mut cell = || cells.next().context("a row of too few cells");
            Ok(Row {
                release: cell()?,
                stream: cell()?,
                event: cell()?,
                field: cell()?,
                why: cell()?,
            })
        })
        .collect::<Result<_>>()?;
    ensure!(
        rows.iter().all(|row| !row.why.is_empty()),
        "a row without a reason"
    );
    Ok(rows)
}

impl Row {
    /// Whether it speaks of series.
    pub(crate) fn is_of_metrics(&self) -> bool {
        self.stream == "metrics"
    }

    pub(crate) fn covers_series(&self, release: &str, series: &str) -> bool {
        self.is_of_metrics() && release.starts_with(self.release) && series.starts_with(self.event)
    }

    pub(crate) fn covers(
        &self,
        release: &str,
        stream: &str,
        event: &str,
        difference: &Difference,
    ) -> bool {
        release.starts_with(self.release)
            && (self.stream.is_empty() || self.stream == stream)
            && event.contains(self.event)
            && (self.field.is_empty() || self.field == difference.path)
            && (!self.why.starts_with(WORDING) || same_values(difference))
    }
}

/// Whether two texts name the same numbers and addresses.
fn same_values(difference: &Difference) -> bool {
    let of = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(values);
    let (hubble, ours) = (of(&difference.hubble), of(&difference.ours));
    hubble.is_some() && hubble == ours
}
