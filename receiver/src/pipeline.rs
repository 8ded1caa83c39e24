//! Wires everything.

use std::process::ExitCode;

use crate::cli::{RecordOptions, ReplayOptions, RunOptions};
use crate::config::Config;

/// Runs until a signal ends it.
///
/// # Errors
/// No source can be started.
pub fn run(_config: Config, _options: RunOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("run: the sources are not wired yet")
}

/// Writes source bytes to a file until a signal ends it.
///
/// # Errors
/// No source can be started, or the file cannot be written.
pub fn record(_config: Config, _options: RecordOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("record: the sources are not wired yet")
}

/// Feeds a recorded file through the pipeline.
///
/// # Errors
/// The file cannot be read, or is not a recording.
pub fn replay(_config: Config, _options: ReplayOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("replay: the pipeline is not wired yet")
}
