//! Responses on their way to one client: bounded in number and in bytes, so that a client that does not read holds up no other and
//! keeps little.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tonic::Status;

/// Responses that wait.
const WAITING_MAX: usize = 64;

/// Bytes of the events that they show; one that is larger waits alone.
const WAITING_BYTES_MAX: u32 = 512 << 10;

/// The end that the server reads.
#[derive(Debug)]
pub(super) struct Responses<T>(mpsc::Receiver<(T, OwnedSemaphorePermit)>);

/// The end that the request's task writes.
#[derive(Debug)]
pub(super) struct Sender<T> {
    to: mpsc::Sender<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

/// The client has gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

pub(super) fn responses<T>() -> (Sender<T>, Responses<T>) {
    let (to, from) = mpsc::channel(WAITING_MAX);
    let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX as usize));
    (Sender { to, room }, Responses(from))
}

impl<T> Sender<T> {
    /// Waits for room for a response of about so many bytes.
    pub(super) async fn send(&self, response: T, bytes: usize) -> Result<(), Gone> {
        let bytes = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .min(WAITING_BYTES_MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes);
        let room = room.await.map_err(|_| Gone)?;
        self.to.send((response, room)).await.map_err(|_| Gone)
    }

    /// Until the client has gone.
    pub(super) async fn closed(&self) {
        self.to.closed().await;
    }
}

impl<T> Stream for Responses<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0
            .poll_recv(cx)
            .map(|next| next.map(|(response, _room)| Ok(response)))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn large_responses_wait_by_their_bytes_and_the_largest_alone() {
        let (to, mut responses) = responses();
        let half = WAITING_BYTES_MAX as usize / 2;
        to.send(1, half).await.unwrap();
        to.send(2, half).await.unwrap();
        let mut third = std::pin::pin!(to.send(3, usize::MAX));
        assert!(futures_poll(third.as_mut()).is_pending());
        assert_eq!(responses.next().await.unwrap().unwrap(), 1);
        assert!(futures_poll(third.as_mut()).is_pending());
        assert_eq!(responses.next().await.unwrap().unwrap(), 2);
        third.await.unwrap();
        assert_eq!(responses.next().await.unwrap().unwrap(), 3);
        drop(responses);
        assert_eq!(to.send(4, 1).await, Err(Gone));
    }

    fn futures_poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(std::task::Waker::noop()))
    }
}
