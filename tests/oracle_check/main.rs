//! What netflume makes of Cilium's monitor events, compared with what Cilium's own code makes of the same bytes (`tests/oracle`).

mod collector;
mod compare;
mod decoded;
mod differences;
mod fixtures;
mod metrics;
mod named;
mod values;
#[path = "../../receiver/core/tests/support/cilium_world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::json;

/// Differences of a kind, shown once.
#[derive(Default)]
struct Group {
    count: usize,
    example: String,
}

#[test]
fn without_the_agents_version_every_event_reads_the_same() -> Result<()> {
    let directory = world::directory();
    for release in fixtures::RELEASES {
        let node = decoded::node(release);
        for stream in fixtures::COUNTED {
            let known = decoded::events(&directory, release, stream, true)?;
            let unknown = decoded::events(&directory, release, stream, false)?;
            let expected = fixtures::expected(release, stream)?;
            for (n, (known, unknown)) in known.iter().zip(&unknown).enumerate() {
                // Reason 8 meant something up to 1.18 only, whose layout of traces newer agents can meet as well; and where a socket
                // event's layout must be guessed, values and lengths that no agent writes lead astray.
                let what = &expected[n].what;
                let telling = [
                    "reason 0x8,",
                    "reason 0x88,",
                    "socket point 9",
                    "verdict cut to",
                    "socket cut to",
                ];
                if telling.iter().any(|text| what.contains(text)) {
                    continue;
                }
                let same = match (known, unknown) {
                    (Ok(known), Ok(unknown)) => {
                        let known = decoded::as_json(known, &node)?;
                        let unknown = decoded::as_json(unknown, &node)?;
                        let differences = compare::differences(&known, &unknown);
                        differences.iter().all(|found| found.path == "flow.uuid")
                    }
                    (known, unknown) => known == unknown,
                };
                ensure!(same, "{release}/{stream} {n}: {known:?}\n{unknown:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn every_event_is_what_hubble_says_but_for_the_listed_differences() -> Result<()> {
    let directory = world::directory();
    let table = differences::table()?;
    let mut used = vec![0_usize; table.len()];
    let mut unlisted: BTreeMap<(String, String), Group> = BTreeMap::new();
    let mut compared = 0;
    for release in fixtures::RELEASES {
        let node = decoded::node(release);
        for stream in fixtures::COUNTED.into_iter().chain([fixtures::ODD]) {
            let expected = fixtures::expected(release, stream)?;
            let ours = decoded::events(&directory, release, stream, true)?;
            ensure!(
                expected.len() == ours.len(),
                "{release}/{stream}: another number of events"
            );
            for (n, (expected, ours)) in expected.iter().zip(&ours).enumerate() {
                compared += 1;
                let error = json!({ "error": "" });
                let hubble = expected.event.as_ref().unwrap_or(&error);
                let (ours, our_error) = match ours {
                    Ok(event) => (decoded::as_json(event, &node)?, ""),
                    Err(text) => (error.clone(), text.as_str()),
                };
                for difference in compare::differences(hubble, &ours) {
                    let row = table
                        .iter()
                        .position(|row| row.covers(release, stream, &expected.what, &difference));
                    if let Some(row) = row {
                        used[row] += 1;
                        continue;
                    }
                    let group = unlisted
                        .entry((difference.path.clone(), format!("{release}/{stream}")))
                        .or_default();
                    group.count += 1;
                    if group.count <= 3 {
                        writeln!(
                            group.example,
                            "    {n} ({}) {difference} {our_error}",
                            expected.what
                        )?;
                    }
                }
            }
        }
    }
    ensure!(compared > 3000, "only {compared} events");
    let mut text = String::new();
    for ((path, stream), group) in &unlisted {
        write!(
            text,
            "  {path} in {stream}, {} times\n{}",
            group.count, group.example
        )?;
    }
    ensure!(
        unlisted.is_empty(),
        "differences that are not listed:\n{text}"
    );
    for (row, used) in table
        .iter()
        .zip(&used)
        .filter(|(row, _)| !row.is_of_metrics())
    {
        ensure!(*used > 0, "a row that covers no difference: {row:?}");
    }
    Ok(())
}
