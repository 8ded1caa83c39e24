//! The server of the Observer API, which keeps trying to listen until the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use netflume_core::ledger::Ledger;

use crate::serve::observer::publisher::FlowPublisher;
use crate::serve::observer::{self, FlowRing, ObserverError, ObserverOptions};

/// Name in messages: its configuration key.
const KEY: &str = "extensions.hubble_observer";
/// A server that could not listen, or stopped working, is tried again after this.
const RETRY: Duration = Duration::from_secs(10);
/// For the last answers to be taken at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The server's side.
pub(crate) struct ObserverApi {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl ObserverApi {
    /// Starts the server. Must be called within the runtime.
    pub(crate) fn start(options: ObserverOptions, ledger: Arc<Ledger>) -> (FlowPublisher, Self) {
        let (writer, ring) = observer::ring(options.capacity, ledger);
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(options, ring.clone(), stop.clone()));
        let publisher = FlowPublisher::new(writer, ring);
        (publisher, Self { stop, task })
    }

    /// Ends the streams and removes the socket.
    pub(crate) async fn stop(mut self) {
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

/// Until `stop`. What is wrong is said once, not at each try.
async fn serve(options: ObserverOptions, ring: FlowRing, stop: CancellationToken) {
    let mut said = String::new();
    loop {
        match listen(&options, ring.clone(), &stop).await {
            Ok(()) => return,
            Err(error) => {
                let why = error.to_string();
                if why != said {
                    tracing::warn!(
                        "{KEY}: {why}; trying again every {} s, the rest runs",
                        RETRY.as_secs()
                    );
                    said = why;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn listen(
    options: &ObserverOptions,
    ring: FlowRing,
    stop: &CancellationToken,
) -> Result<(), ObserverError> {
    let server = observer::bind(options, ring).await?;
    tracing::info!(local = %server.endpoint(), "{KEY} listens");
    server.serve(stop.clone()).await
}
