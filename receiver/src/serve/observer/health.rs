//! gRPC health checks for the Observer API: as long as the server runs, it serves.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server::Health;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};

/// What Hubble calls its service in health checks, and what the service is called by its schema.
const SERVICES: [&str; 3] = ["", "hubble.server.Observer", "observer.Observer"];

/// The health service.
#[derive(Clone, Debug)]
pub(super) struct HealthService {
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if SERVICES.contains(&service.as_str()) {
            Ok(Response::new(response(ServingStatus::Serving)))
        } else {
            Err(Status::not_found(format!("no service `{service}` here")))
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let first = if SERVICES.contains(&service.as_str()) {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        let (to, responses) = mpsc::channel(2);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            if to.send(Ok(response(first))).await.is_err() {
                return;
            }
            // The state changes once, at the end.
            tokio::select! {
                () = to.closed() => {}
                () = stop.cancelled() => drop(to.send(Ok(response(ServingStatus::NotServing))).await),
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
