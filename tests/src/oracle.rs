//! `tests/oracle` as a server of the monitor socket: with the agent's own listener, or with the exact bytes of a file.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::wait;

/// What the server counted, see `counts` and `rawCounts` in its sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts(Value);

impl Counts {
    /// A whole number: `sent`, `offered`, `dropped`, `written`, `bytes`, `events`, `connections`, `clients`.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_default()
    }

    /// `seconds` or `cpu_seconds`.
    #[must_use]
    pub fn seconds(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_default()
    }

    /// All events were given and, unless agents died in between, written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0["done"].as_bool().unwrap_or_default()
    }
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

impl Server {
    /// The listener code of the agent; `options` and what they mean: `oracle serve -h`.
    ///
    /// # Errors
    /// It cannot be built or does not come up.
    pub fn agent(socket: &Path, options: &str, streams: &[PathBuf]) -> Result<Self> {
        Self::start("serve", socket, options, streams)
    }

    /// A file's bytes; `options` and what they mean: `oracle serve-raw -h`.
    ///
    /// # Errors
    /// It cannot be built or does not come up.
    pub fn raw(socket: &Path, options: &str, stream: PathBuf) -> Result<Self> {
        Self::start("serve-raw", socket, options, &[stream])
    }

    /// The agent's API, with what `world.json` of the fixtures says.
    ///
    /// # Errors
    /// It cannot be built or does not come up.
    pub fn api(socket: &Path) -> Result<Self> {
        let world = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cilium/world.json");
        let options = format!("-world {}", world.display());
        Self::start("serve-api", socket, &options, &[])
    }

    fn start(command: &str, socket: &Path, options: &str, streams: &[PathBuf]) -> Result<Self> {
        let program = xtask::partner::ORACLE.program()?;
        let mut child = Command::new(program)
            .arg(command)
            .arg("-socket")
            .arg(socket)
            .args(options.split_whitespace())
            .args(streams)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the oracle")?;
        let commands = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let server = Self {
            child,
            commands,
            lines,
        };
        let ready = server.line()?;
        anyhow::ensure!(ready.contains("\"ready\":true"), "the oracle said {ready}");
        Ok(server)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&self) -> Result<String> {
        self.lines
            .recv_timeout(wait::patience())
            .context("the oracle says nothing")
    }

    /// The counts now; only the agent's listener tells them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn counts(&mut self) -> Result<Counts> {
        self.tell("stats")
    }

    /// The agent dies, in the middle of whatever it does, and the next one is there at once.
    ///
    /// # Errors
    /// It does not answer.
    pub fn restart(&mut self) -> Result<Counts> {
        self.tell("restart")
    }

    /// The agent dies for good; what it wrote until then.
    ///
    /// # Errors
    /// It does not answer.
    pub fn stop(&mut self) -> Result<Counts> {
        self.tell("stop")
    }

    fn tell(&mut self, command: &str) -> Result<Counts> {
        // It also speaks unasked, once, when all events are given.
        while self.lines.try_recv().is_ok() {}
        writeln!(self.commands, "{command}")?;
        Ok(Counts(serde_json::from_str(&self.line()?)?))
    }

    /// What it says next by itself: [`Self::raw`] tells the counts of each client when it is done with it.
    ///
    /// # Errors
    /// It says nothing within `time`.
    pub fn next_counts(&mut self, time: std::time::Duration) -> Result<Counts> {
        let line = self
            .lines
            .recv_timeout(time)
            .context("the oracle says nothing")?;
        Ok(Counts(serde_json::from_str(&line)?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is gone either way; there is nobody to tell.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
