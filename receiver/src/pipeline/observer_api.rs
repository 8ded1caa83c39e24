//! The server of the Observer API, which keeps trying to listen until the end.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

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
    ended: Receiver<()>,
}

impl ObserverApi {
    /// Starts the server, on a thread of its own: what clients ask for may be costly, and holds up nothing but them.
    ///
    /// # Errors
    /// No thread or runtime can be started.
    pub(super) fn start(options: ObserverOptions, ledger: Arc<Ledger>) -> std::io::Result<Self> {
        let ring = observer::ring(options.capacity, ledger);
        let stop = CancellationToken::new();
        let (served, stopped) = (ring.clone(), stop.clone());
        let (ending, ended) = sync_channel::<()>(0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("observer".to_owned())
            .spawn(move || {
                runtime.block_on(until_stopped(options, served, stopped));
                runtime.shutdown_background();
                drop(ending);
            })?;
        Ok(Self { ring, stop, ended })
    }

    /// The engine's side; there is one at a time.
    pub(super) fn publisher(&self) -> FlowPublisher {
        FlowPublisher::new(self.ring.clone())
    }

    /// Ends the streams and removes the socket. A server that is in the middle of a long search is left to it.
    pub(super) fn stop(self) {
        self.stop.cancel();
        let _ended = self.ended.recv_timeout(2 * STOP_TIMEOUT);
    }
}

/// Serves until `stop`, and a moment longer for the last answers to be taken.
async fn until_stopped(options: ObserverOptions, ring: FlowRing, stop: CancellationToken) {
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        () = serve(options, ring, stop.clone()) => {}
        () = deadline => {}
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
