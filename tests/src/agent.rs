//! The `netflume` program as its user starts it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{http, wait};

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

/// The program under test, without OpenTelemetry's own variables of this process.
///
/// # Errors
/// It cannot be built.
pub fn command() -> Result<Command> {
    let mut command = Command::new(program()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// A running netflume. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    folder: TempDir,
}

impl Agent {
    /// Starts `netflume run` and waits until it watches this machine's connections. Without a configuration it runs with its own.
    ///
    /// # Errors
    /// It cannot be built or started, or the kernel programs cannot be attached.
    pub fn watching(config: Option<&str>, env: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut args = vec!["run"];
        if let Some(config) = config {
            fs::write(folder.path().join("netflume.yaml"), config)?;
            args.extend(["--config", "netflume.yaml"]);
        }
        let mut agent = Self::start_in(folder, &args, env)?;
        // Said once the programs are attached.
        agent.says("records go ")?;
        Ok(agent)
    }

    /// Starts `netflume` with these arguments and variables; OpenTelemetry's own variables of this process are not handed on.
    ///
    /// # Errors
    /// It cannot be built or started.
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, args, env)
    }

    /// [`Agent::start`] with its standard output in a pipe.
    ///
    /// # Errors
    /// It cannot be built or started.
    pub fn piped(args: &[&str]) -> Result<(Self, ChildStdout)> {
        let mut agent = Self::start_with(tempfile::tempdir()?, args, &[], Stdio::piped())?;
        let stdout = agent.child.stdout.take().context("a pipe")?;
        Ok((agent, stdout))
    }

    fn start_in(folder: TempDir, args: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        let stdout = File::create(folder.path().join("stdout"))?;
        Self::start_with(folder, args, env, stdout.into())
    }

    fn start_with(
        folder: TempDir,
        args: &[&str],
        env: &[(&str, &str)],
        stdout: Stdio,
    ) -> Result<Self> {
        let child = command()?
            .args(args)
            .envs(env.iter().copied())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(stdout)
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

    /// Waits until each of its threads called `threads`, and no other one that is watched, has made progress once more, as its health
    /// endpoint at `health` reports it.
    ///
    /// # Errors
    /// They do not.
    pub fn threads_are_alive(&self, health: SocketAddr, threads: &[&str]) -> Result<()> {
        let begin = Instant::now();
        let mut seen = String::new();
        wait::until("every thread makes progress", || {
            seen = http::get(health, "/").ok()?;
            let since = begin.elapsed();
            let summary: serde_json::Value = serde_json::from_str(&seen).ok()?;
            let watched = summary["threads"].as_object()?;
            let after = |thread: &serde_json::Value| {
                let silent = thread["silentMs"].as_u64().map(Duration::from_millis);
                silent.is_some_and(|silent| silent < since)
            };
            let names = watched.keys().map(String::as_str);
            (names.eq(threads.iter().copied()) && watched.values().all(after)).then_some(())
        })
        .with_context(|| seen)?;
        anyhow::ensure!(http::get(health, "/livez")? == "ok\n", "/livez");
        Ok(())
    }

    /// Waits until what it says about itself contains `text`.
    ///
    /// # Errors
    /// It does not, or the program ended; the error holds what was said instead.
    pub fn says(&mut self, text: &str) -> Result<()> {
        let said = wait::until(text, || match self.stderr().contains(text) {
            true => Some(Ok(())),
            false => self.child.try_wait().ok().flatten().map(Err),
        });
        match said {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => Err(anyhow!("netflume ended with {status}")),
            Err(error) => Err(error),
        }
        .with_context(|| format!("netflume said:\n{}{}", self.stdout(), self.stderr()))
    }

    /// Where one of its servers listens, by the key of the configuration: `extensions.prometheus`.
    ///
    /// # Errors
    /// It did not say so.
    pub fn listens(&mut self, key: &str) -> Result<SocketAddr> {
        let before = format!("{key} listens local=");
        self.says(&before)?;
        let said = self.stderr();
        let (_, address) = said.split_once(&before).context("said a moment ago")?;
        let address = address.split_whitespace().next().unwrap_or_default();
        address
            .parse()
            .with_context(|| format!("{key} listens at {address}"))
    }

    /// Asks it to read its configuration again (SIGHUP).
    ///
    /// # Errors
    /// It has ended.
    pub fn hang_up(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::HUP)?)
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
