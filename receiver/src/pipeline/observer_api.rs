//! The server of the Observer API, which keeps trying to listen until the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use netflume_core::ledger::Ledger;

use crate::serve::observer::publisher::FlowPublisher;
use crate::serve::observer::{self, FlowRing, ObserverOptions};

/// Name in messages: its configuration key.
const KEY: &str = "extensions.hubble_observer";
/// A server that could not listen, or stopped working, is tried again after this.
const RETRY: Duration = Duration::from_secs(10);
/// For the last answers to be taken at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The server's side.
pub(super) struct ObserverApi {
    ring: FlowRing,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl ObserverApi {
    /// Starts the server. Must be called within the runtime.
    pub(super) fn start(options: ObserverOptions, ledger: Arc<Ledger>) -> Self {
        let ring = observer::ring(options.capacity, ledger);
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(options, ring.clone(), stop.clone()));
        Self { ring, stop, task }
    }

    /// The engine's side; there is one at a time.
    pub(super) fn publisher(&self) -> FlowPublisher {
        FlowPublisher::new(self.ring.clone())
    }

    /// Ends the streams and removes the socket.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_TIMEOUT, &mut self.task)
            .await
            .is_err()
        {
            // A client that does not take its last answer.
            self.task.abort();
            let _aborted = self.task.await;
        }
    }
}

/// Until `stop`. What is wrong is reported once, not at each try, and so is that all is well.
async fn serve(options: ObserverOptions, ring: FlowRing, stop: CancellationToken) {
    let (mut listens, mut failed) = (false, String::new());
    loop {
        let served = match observer::bind(&options, ring.clone()).await {
            Ok(server) => {
                if !listens {
                    tracing::info!(local = %server.endpoint(), "{KEY} listens");
                    listens = true;
                }
                server.serve(stop.clone()).await
            }
            Err(error) => Err(error),
        };
        let Err(error) = served else {
            return;
        };
        let why = error.to_string();
        if failed != why {
            tracing::warn!(
                "{KEY}: {why}; trying again every {} s, the rest runs",
                RETRY.as_secs()
            );
            (listens, failed) = (false, why);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}
