//! The Cilium agent's monitor socket, played by a test: the fixtures' messages, sent when the test wants.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use netflume_core::decode::gob;

use crate::wait;

/// The messages of a fixture. All fixtures define the same types, so messages of several may go over one connection.
#[derive(Clone, Debug)]
pub struct Messages {
    /// What must come before the first event.
    pub definitions: Vec<u8>,
    /// One message for each event.
    pub events: Vec<Vec<u8>>,
}

impl Messages {
    /// Those of `tests/fixtures/cilium/1.19.4/NAME.gob`.
    ///
    /// # Errors
    /// There is no such file, or it is no monitor stream.
    pub fn of(name: &str) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/cilium/1.19.4")
            .join(format!("{name}.gob"));
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let (mut definitions, mut events) = (Vec::new(), Vec::new());
        let mut rest = bytes.as_slice();
        while let Some((content, after)) = gob::frame(rest)? {
            let message = &rest[..rest.len() - after.len()];
            if gob::Reader::new(content).int()? < 0 {
                definitions.extend_from_slice(message);
            } else {
                events.push(message.to_vec());
            }
            rest = after;
        }
        Ok(Self {
            definitions,
            events,
        })
    }
}

/// A listening monitor socket.
#[derive(Debug)]
pub struct Monitor {
    listener: UnixListener,
    path: PathBuf,
}

impl Monitor {
    /// Listens at `path`.
    ///
    /// # Errors
    /// The path is taken or cannot be written.
    pub fn listen(path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path).with_context(|| path.display().to_string())?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a client.
    ///
    /// # Errors
    /// None comes.
    pub fn accept(&self) -> Result<Client> {
        let stream = wait::until("a client of the monitor socket", || {
            self.listener.accept().ok().map(|(stream, _)| stream)
        })?;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(wait::patience()))?;
        Ok(Client(stream))
    }
}

/// A client; the connection ends with it.
#[derive(Debug)]
pub struct Client(UnixStream);

impl Client {
    /// Sends bytes.
    ///
    /// # Errors
    /// The client is gone, or takes nothing any more.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0
            .write_all(bytes)
            .map_err(|error| anyhow!("the client takes nothing: {error}"))
    }

    /// Sends messages.
    ///
    /// # Errors
    /// As for [`Client::send`].
    pub fn send_all(&mut self, messages: &[Vec<u8>]) -> Result<()> {
        self.send(&messages.concat())
    }
}
