//! What the program is asked for from outside: SIGINT (Ctrl-C) and SIGTERM for its end, SIGHUP for a reload of its configuration.

use std::io;

use crate::platform::Asked;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that ask for something. One that comes before it is waited for is not lost.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on. Must be called within the runtime.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
