//! The files of `tests/fixtures/cilium`, see its README.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use serde_json::Value;

pub(crate) const RELEASES: [&str; 2] = ["1.18.6", "1.19.4"];

/// The streams whose flows the metrics count, in that order.
pub(crate) const COUNTED: [&str; 7] =
    ["drop", "trace", "verdict", "packet", "other", "l7", "agent"];

/// Events that we read otherwise than Hubble.
pub(crate) const ODD: &str = "odd";

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cilium")
}

/// The bytes that a client of the monitor socket reads.
pub(crate) fn stream(release: &str, name: &str) -> Result<Vec<u8>> {
    let path = folder().join(release).join(format!("{name}.gob"));
    fs::read(&path).with_context(|| path.display().to_string())
}

/// What Hubble says of one event.
#[derive(Debug)]
pub(crate) struct Expected {
    /// What the event was made to show.
    pub(crate) what: String,
    /// Hubble's JSON, under `flow`, `agent_event`, `debug_event` or `lost_events`; `None`: an error.
    pub(crate) event: Option<Value>,
}

pub(crate) fn expected(release: &str, name: &str) -> Result<Vec<Expected>> {
    let text = unpacked(release, &format!("{name}.jsonl.gz"))?;
    text.lines()
        .map(|line| {
            let mut said: Value = serde_json::from_str(line)?;
            let what = said["what"].as_str().unwrap_or_default().to_owned();
            let members = said.as_object_mut().context("a line that is no object")?;
            members.retain(|key, _| !matches!(key.as_str(), "n" | "what"));
            let event = (!members.contains_key("error")).then_some(said);
            Ok(Expected { what, event })
        })
        .collect()
}

/// The configurations whose counts are kept: name, configuration and Prometheus text.
pub(crate) fn metrics(release: &str) -> Result<Vec<(String, String, String)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder().join(release))? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".prom.gz") else {
            continue;
        };
        let text = unpacked(release, &file)?;
        let (head, rest) = text.split_once('\n').context("an empty file")?;
        let (_, config) = head.split_once(": ").context("no configuration")?;
        all.push((name.to_owned(), config.to_owned(), rest.to_owned()));
    }
    all.sort();
    Ok(all)
}

fn unpacked(release: &str, file: &str) -> Result<String> {
    let path = folder().join(release).join(file);
    let packed = fs::read(&path).with_context(|| path.display().to_string())?;
    let mut text = String::new();
    GzDecoder::new(packed.as_slice()).read_to_string(&mut text)?;
    Ok(text)
}
