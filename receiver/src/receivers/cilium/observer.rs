//! The Observer API beside the pipeline: events go into its ring, and its server keeps trying to listen until the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::serve::observer::{self, FlowRing, ObserverError, ObserverOptions, RingWriter};
use netflume_core::ledger::Ledger;
use netflume_core::model::cilium::{CiliumEvent, LostEvent};
use netflume_core::model::flow::{LostEventSource, Node};

/// Name in messages: its configuration key.
const KEY: &str = "extensions.hubble_observer";
/// A server that could not listen, or stopped working, is tried again after this.
const RETRY: Duration = Duration::from_secs(10);
/// For the last answers to be taken at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The pipeline's side: what clients are shown, and what they missed.
pub(crate) struct Shown {
    writer: RingWriter,
    ring: FlowRing,
    /// Missed events that were told already.
    told: u64,
}

impl Shown {
    /// Takes an event; clients see it after [`Shown::flush`].
    pub(crate) fn push(&mut self, event: CiliumEvent) {
        self.writer.push(event);
    }

    /// Shows clients what was pushed. Never waits for them.
    pub(crate) fn flush(&mut self) {
        self.writer.flush();
    }

    /// Whose flows they are.
    pub(crate) fn set_node(&self, node: &Node) {
        self.writer.set_node(node.clone());
    }

    /// Events that slow clients missed since the last time, as the loss that Hubble counts; none if there are none.
    pub(crate) fn missed(&mut self, unix_ns: u64) -> Option<LostEvent> {
        let missed = self.ring.missed();
        let count = missed - std::mem::replace(&mut self.told, missed);
        (count > 0).then(|| LostEvent {
            time_ns: unix_ns,
            source: LostEventSource::HUBBLE_RING_BUFFER,
            count,
            ..LostEvent::default()
        })
    }
}

/// The server's side.
pub(crate) struct ObserverApi {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl ObserverApi {
    /// Starts the server. Must be called within the runtime.
    pub(crate) fn start(options: ObserverOptions, ledger: Arc<Ledger>) -> (Shown, Self) {
        let (writer, ring) = observer::ring(options.capacity, ledger);
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(options, ring.clone(), stop.clone()));
        let shown = Shown {
            writer,
            ring,
            told: 0,
        };
        (shown, Self { stop, task })
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
