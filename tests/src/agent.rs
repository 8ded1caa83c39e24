//! The `netflume` program as its user starts it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait;

/// The program under test: `NETFLUME_BIN` if set, else built by cargo.
///
/// # Errors
/// It cannot be built.
pub fn program() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = std::env::var_os("NETFLUME_BIN") {
        return Ok(path.into());
    }
    // Same features as the tests themselves: nothing is compiled twice.
    let build = || {
        let mut cargo = xtask::run::command("cargo build --quiet --workspace --bin netflume");
        xtask::run::cargo_executables(&mut cargo, ["netflume"]).map(|[path]| path)
    };
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))
}

/// A running netflume. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    folder: TempDir,
}

impl Agent {
    /// Starts `netflume` with these arguments and variables; OpenTelemetry's own variables of this process are not handed on.
    ///
    /// # Errors
    /// It cannot be built or started.
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(program()?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OTEL_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(args)
            .envs(env.iter().copied())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("stdout"))?)
            .stderr(File::create(folder.path().join("stderr"))?)
            .spawn()
            .context("cannot start netflume")?;
        Ok(Self { child, folder })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.folder.path().join("stdout")).unwrap_or_default()
    }

    /// What it said so far about itself.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Waits until one of its own lines on standard error contains `text`.
    ///
    /// # Errors
    /// It does not come; the error holds what was said instead.
    pub fn says(&self, text: &str) -> Result<()> {
        wait::until(text, || self.stderr().contains(text).then_some(()))
            .with_context(|| format!("netflume said:\n{}{}", self.stdout(), self.stderr()))
    }

    /// Asks it to end, as a supervisor does, and waits.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        wait::until("netflume ends", || self.child.try_wait().ok().flatten())
            .with_context(|| format!("netflume said:\n{}", self.stderr()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It is gone either way; there is nobody to tell.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
