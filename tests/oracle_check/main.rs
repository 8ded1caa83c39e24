//! What netflume makes of Cilium's monitor events, compared with what Cilium's own code makes of the same bytes (`tests/oracle`).

mod compare;
mod decoded;
mod differences;
mod fixtures;
mod metrics;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, ensure};
use serde_json::json;

use differences::LISTED;

/// Differences of a kind, shown once.
#[derive(Default)]
struct Group {
    count: usize,
    example: String,
}

#[test]
fn without_the_agents_version_every_event_reads_the_same() -> Result<()> {
    let world = world::load(&fixtures::folder())?;
    for release in fixtures::RELEASES {
        for stream in fixtures::COUNTED {
            let known = decoded::events(&world, release, stream, true)?;
            let unknown = decoded::events(&world, release, stream, false)?;
            for (n, (known, unknown)) in known.iter().zip(&unknown).enumerate() {
                ensure!(
                    known == unknown,
                    "{release}/{stream} {n}: {known:?}\n{unknown:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn every_event_is_what_hubble_says_but_for_the_listed_differences() -> Result<()> {
    let world = world::load(&fixtures::folder())?;
    let mut used = vec![0_usize; LISTED.len()];
    let mut unlisted: BTreeMap<(String, String), Group> = BTreeMap::new();
    let mut compared = 0;
    for release in fixtures::RELEASES {
        let node = decoded::node(&world, release);
        for stream in fixtures::COUNTED.into_iter().chain([fixtures::ODD]) {
            let expected = fixtures::expected(release, stream)?;
            let ours = decoded::events(&world, release, stream, true)?;
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
                    let mut listed = LISTED.iter().enumerate().filter(|(_, listed)| {
                        listed.covers(release, stream, &expected.what, &difference)
                    });
                    if let Some((at, _)) = listed.next() {
                        used[at] += 1;
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
    println!("{compared} events compared");
    for (listed, used) in LISTED.iter().zip(&used) {
        println!(
            "{used:6} {} {}: {}",
            listed.stream, listed.path, listed.reason
        );
    }
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
    for (listed, used) in LISTED.iter().zip(&used) {
        ensure!(*used > 0, "a listed difference is none: {listed:?}");
    }
    Ok(())
}
