//! A real OpenTelemetry Collector of our own manifest, with its output read back.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::otlp_json::{self, Log, Point};
use crate::wait;

/// A Collector that runs one of our configurations on ports and in a folder of its own. Killed when dropped.
#[derive(Debug)]
pub struct Collector {
    program: PathBuf,
    config: &'static str,
    folder: TempDir,
    port: u16,
    prometheus_port: u16,
    child: Option<Child>,
}

impl Collector {
    /// Starts it with `otelcol-config/file.yaml` and waits until it listens.
    ///
    /// # Errors
    /// It cannot be built or does not come up.
    pub fn start() -> Result<Self> {
        Self::with("file")
    }

    /// As [`Self::start`] with another configuration of `otelcol-config/`.
    ///
    /// # Errors
    /// It cannot be built or does not come up.
    pub fn with(config: &'static str) -> Result<Self> {
        let mut collector = Self {
            program: xtask::partner::COLLECTOR.program()?,
            config,
            folder: tempfile::tempdir()?,
            port: 0,
            prometheus_port: 0,
            child: None,
        };
        let free = || -> Result<u16> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
        // A port that was free a moment ago may be taken by now: then try the next.
        for _ in 0..5 {
            (collector.port, collector.prometheus_port) = (free()?, free()?);
            if collector.restart().is_ok() {
                return Ok(collector);
            }
        }
        collector.restart()?;
        Ok(collector)
    }

    /// Where its Prometheus exporter listens, if the configuration has one.
    #[must_use]
    pub fn prometheus(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.prometheus_port))
    }

    /// The port of its OTLP/gRPC receiver on 127.0.0.1; the same after [`Self::restart`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Stops it as its supervisor would: it finishes its work. Nothing listens afterwards.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        wait::until("the Collector ends", || child.try_wait().ok().flatten())?;
        Ok(())
    }

    /// Starts it again on the same port; what it wrote before stays.
    ///
    /// # Errors
    /// It does not come up; the error holds its log.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        let log = self.folder.path().join("otelcol.log");
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(
                xtask::cache::root()
                    .join("otelcol-config")
                    .join(self.config)
                    .with_extension("yaml"),
            )
            .env("OTLP_GRPC_LISTEN", format!("127.0.0.1:{}", self.port))
            .env("PROMETHEUS_LISTEN", self.prometheus().to_string())
            .env("OTELCOL_OUTPUT", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let port = self.port;
        let up = wait::until("the Collector listens", || match child.try_wait() {
            Ok(Some(status)) => Some(Err(status)),
            _ => TcpStream::connect(("127.0.0.1", port))
                .is_ok()
                .then_some(Ok(())),
        })?;
        self.child = Some(child);
        if let Err(status) = up {
            self.child = None;
            bail!(
                "the Collector ended with {status}:\n{}",
                fs::read_to_string(log)?
            );
        }
        Ok(())
    }

    /// The text of a file that the Collector writes: `logs.jsonl`, `metrics.jsonl`, `traces.jsonl`. Empty if there is none yet.
    #[must_use]
    pub fn text(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    /// Everything in the log records that it wrote so far.
    ///
    /// # Errors
    /// A line is not OTLP JSON.
    pub fn logs(&self) -> Result<Vec<Log>> {
        let requests = read_lines(&self.folder.path().join("logs.jsonl"))?;
        requests
            .iter()
            .map(otlp_json::logs)
            .collect::<Result<Vec<_>>>()
            .map(|all| all.concat())
    }

    /// Every metric point that it wrote so far, in the order of arrival.
    ///
    /// # Errors
    /// A line is not OTLP JSON.
    pub fn points(&self) -> Result<Vec<Point>> {
        let requests = read_lines(&self.folder.path().join("metrics.jsonl"))?;
        requests
            .iter()
            .map(otlp_json::points)
            .collect::<Result<Vec<_>>>()
            .map(|all| all.concat())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It is gone either way; there is nobody to tell.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The complete lines of a file that is still being written; none if it is not there yet.
fn read_lines(path: &Path) -> Result<Vec<Value>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    complete
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect()
}
