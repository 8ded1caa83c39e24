//! The Peer service: which nodes a relay finds here. That is this node alone; others are found at their own endpoints.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::listen::Local;
use super::ring::FlowRing;
use crate::proto::peer::peer_server::Peer;
use crate::proto::peer::{ChangeNotification, ChangeNotificationType, NotifyRequest, Tls};

/// The service; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct PeerService {
    pub ring: FlowRing,
    /// Where a client of a unix socket finds us.
    pub endpoint: String,
    pub tls: bool,
    /// Ends the streams.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl Peer for PeerService {
    type NotifyStream = ReceiverStream<Result<ChangeNotification, Status>>;

    async fn notify(
        &self,
        request: Request<NotifyRequest>,
    ) -> Result<Response<Self::NotifyStream>, Status> {
        let local = request
            .extensions()
            .get::<Local>()
            .and_then(|local| local.0);
        let address = address(local, &self.endpoint);
        let (to, changes) = mpsc::channel(2);
        let Self {
            ring, tls, stop, ..
        } = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = notify(&ring, &address, tls, &to) => {}
                () = to.closed() => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(changes)))
    }
}

/// The address at which this client has reached us: the one that we listen on may be any.
fn address(local: Option<SocketAddr>, endpoint: &str) -> String {
    local.map_or_else(
        || endpoint.to_owned(),
        |local| SocketAddr::new(local.ip().to_canonical(), local.port()).to_string(),
    )
}

/// This node, and its new name whenever the agent reports one.
async fn notify(
    ring: &FlowRing,
    address: &str,
    tls: bool,
    to: &mpsc::Sender<Result<ChangeNotification, Status>>,
) {
    let mut node = ring.watch_node();
    let mut known = String::new();
    loop {
        let name = node.borrow_and_update().name.clone();
        if name != known {
            for (name, kind) in [
                (known, ChangeNotificationType::PeerDeleted),
                (name.clone(), ChangeNotificationType::PeerAdded),
            ] {
                if name.is_empty() {
                    continue;
                }
                let change = ChangeNotification {
                    tls: tls.then(|| Tls {
                        server_name: server_name(&name),
                    }),
                    address: address.to_owned(),
                    r#type: kind.into(),
                    name,
                };
                if to.send(Ok(change)).await.is_err() {
                    return;
                }
            }
            known = name;
        }
        if node.changed().await.is_err() {
            return;
        }
    }
}

/// The name that relays look for in our certificate, as for Hubble's own servers: `<node>.<cluster>.hubble-grpc.cilium.io`, with
/// dashes for the dots of both names.
fn server_name(node: &str) -> String {
    let (cluster, node) = node.split_once('/').unwrap_or(("default", node));
    let part = |name: &str| name.trim_end_matches('.').replace('.', "-");
    format!("{}.{}.hubble-grpc.cilium.io", part(node), part(cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_the_certificate_is_hubbles() {
        assert_eq!(
            server_name("prod/node-a.example.com"),
            "node-a-example-com.prod.hubble-grpc.cilium.io"
        );
        assert_eq!(server_name("a"), "a.default.hubble-grpc.cilium.io");
    }

    #[test]
    fn the_address_is_the_one_by_which_the_client_came() {
        let local = |text: &str| Some(text.parse().unwrap());
        assert_eq!(
            address(local("[::ffff:10.0.0.1]:4244"), "[::]:4244"),
            "10.0.0.1:4244"
        );
        assert_eq!(
            address(local("[2001:db8::1]:1"), "[::]:1"),
            "[2001:db8::1]:1"
        );
        assert_eq!(address(None, "unix:///a.sock"), "unix:///a.sock");
    }
}
