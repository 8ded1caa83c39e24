//! A run of netflume that reads a monitor socket, and streams to serve on it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use netflume_core::decode::cilium::{Monitor, Payload};
use netflume_core::decode::gob;
use netflume_tests::agent::Agent;
use netflume_tests::page::Page;
use tempfile::TempDir;

/// Streams of a fixture: every kind of event.
pub(crate) const STREAMS: [&str; 7] =
    ["drop", "trace", "verdict", "packet", "other", "l7", "agent"];

/// The newest release of the fixtures.
pub(crate) const RELEASE: &str = "1.19.4";

/// A folder with a socket's path.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
        })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("monitor1_2.sock")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A stream of the fixtures.
pub(crate) fn stream(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/cilium")
        .join(RELEASE)
        .join(format!("{name}.gob"))
}

/// A configuration with nothing but the Cilium receiver, its own page, and these exporters. No agent is asked for names.
pub(crate) fn config(socket: &Path, exporters: &str) -> String {
    format!(
        "receivers: {{ cilium: {{ socket: \"{}\", api_socket: \"\" }} }}\n\
         exporters: {{ {exporters} }}\n\
         extensions: {{ prometheus: {{ endpoint: \"127.0.0.1:0\" }} }}\n\
         service: {{ telemetry: {{ export: false }} }}\n",
        socket.display()
    )
}

/// netflume with [`config`].
pub(crate) fn run(socket: &Path, exporters: &str) -> Result<(Agent, SocketAddr)> {
    let mut agent = Agent::watching(Some(&config(socket, exporters)), &[])?;
    let page = agent.listens("extensions.prometheus")?;
    Ok((agent, page))
}

/// Everything that came through the socket was decoded: it is in the books, message by message and byte by byte.
pub(crate) fn is_decoded(page: &Page) -> bool {
    let (socket, decode, logs) = (
        page.source("cilium"),
        page.stage("decode"),
        page.stage("logs"),
    );
    socket.is_balanced()
        && decode.is_balanced()
        && logs.is_balanced()
        && decode.received == socket.passed
        && logs.received == decode.passed
}

/// Payloads of a stream: samples and losses.
pub(crate) fn payloads(path: &Path) -> Result<(u64, u64)> {
    payloads_of(&fs::read(path).with_context(|| path.display().to_string())?)
}

/// [`payloads`] of bytes.
pub(crate) fn payloads_of(bytes: &[u8]) -> Result<(u64, u64)> {
    let (mut monitor, mut rest) = (Monitor::default(), bytes);
    let (mut samples, mut losses) = (0, 0);
    while !rest.is_empty() {
        let (payload, after) = monitor.next(rest)?;
        match payload {
            Some(Payload::Lost { .. }) => losses += 1,
            Some(_) => samples += 1,
            None => {}
        }
        rest = after;
    }
    Ok((samples, losses))
}

/// Writes a stream of traces with as many bytes behind their packet's head as `size`: one message fills the socket's buffer, so that an
/// agent that dies does so in the middle of one.
pub(crate) fn large(path: &Path, size: usize) -> Result<()> {
    let bytes = fs::read(stream("trace"))?;
    let (mut monitor, mut rest) = (Monitor::default(), &bytes[..]);
    loop {
        let (payload, after) = monitor.next(rest)?;
        let Some(Payload::Sample { data, .. }) = payload else {
            rest = after;
            continue;
        };
        let definitions = &bytes[..bytes.len() - rest.len()];
        let (content, _) = gob::frame(rest)?.context("a whole message")?;
        let start = content
            .windows(data.len())
            .position(|window| window == data)
            .context("the data stands in the message")?;
        // Before the data its length, before that the type and the field's number; after it the other fields.
        let (head, tail) = (
            &content[..start - number(data.len()).len()],
            &content[start + data.len()..],
        );
        let data = [data, &vec![0; size]].concat();
        let content = [head, &number(data.len()), &data, tail].concat();
        let stream = [definitions, &number(content.len()), &content].concat();
        return fs::write(path, stream).context("the large stream");
    }
}

/// An unsigned number of gob: below 128 one byte, else the negated count of its bytes, then these.
fn number(value: usize) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let skip = bytes.iter().take_while(|byte| **byte == 0).count();
    let count = (bytes.len() - skip) as u8;
    match value {
        0..128 => vec![value as u8],
        _ => [&[count.wrapping_neg()], &bytes[skip..]].concat(),
    }
}
