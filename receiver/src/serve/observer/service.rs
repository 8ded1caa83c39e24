//! The Observer service over the ring.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::mask::FieldMask;
use super::namespaces::Namespaces;
use super::range::{Place, Range, time_ns};
use super::responses::{self, Responses};
use super::ring::{FlowRing, Read};
use super::{convert, events};
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::proto::observer::observer_server::Observer;
use crate::proto::observer::{self as proto};
use crate::proto::relay::NodeState;
use netflume_core::aggregate::flow_filter::FlowFilters;
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::model::flow::Node;

/// A request that works for so long lets others go on before it does.
const TURN: Duration = Duration::from_millis(5);

/// The service; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub ring: FlowRing,
    pub namespaces: Namespaces,
    /// One permit for each stream.
    pub clients: Arc<Semaphore>,
    pub max_clients: usize,
    pub started: Instant,
    /// Where we serve, for `GetNodes`.
    pub address: Arc<str>,
    pub tls: bool,
    /// Ends the streams.
    pub stop: CancellationToken,
}

/// Shares the server's thread among requests: the events of a ring that is searched by costly filters may take seconds.
#[derive(Debug)]
pub(super) struct Turn(Instant);

impl Turn {
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Lets others go on, if this one has worked for long.
    pub(super) async fn pass(&mut self) {
        if self.0.elapsed() >= TURN {
            tokio::task::yield_now().await;
            *self = Self::begin();
        }
    }
}

/// What a stream makes of the events.
trait Select: Send + 'static {
    type Response: Send + 'static;

    /// Whether an event is one of those that were asked for.
    fn matches(&self, event: &CiliumEvent, node: &Node) -> bool;

    /// The answer for an event that matches, or for a loss; `None` where the stream has no form for it.
    fn response(&self, event: &CiliumEvent, node: &Node) -> Option<Self::Response>;

    /// The answer for events that the client missed.
    fn missed(&self, events: u64, node: &Node, unix_ns: u64) -> Option<Self::Response>;
}

impl Service {
    fn admit(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.clients.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{} clients are being served, which is the most that is configured",
                self.max_clients
            ))
        })
    }

    fn stream<S: Select + Sync>(
        &self,
        range: Range,
        select: S,
    ) -> Result<Response<Responses<S::Response>>, Status> {
        let permit = self.admit()?;
        let (to, responses) = responses::responses();
        let (ring, stop) = (self.ring.clone(), self.stop.clone());
        tokio::spawn(async move {
            let reading = read(ring, range, &select, &to);
            tokio::select! {
                () = reading => {}
                () = to.closed() => {}
                () = stop.cancelled() => {}
            }
            drop(permit);
        });
        Ok(Response::new(responses))
    }
}

/// Sends what matches until the range ends or the client has gone.
async fn read<S: Select>(
    ring: FlowRing,
    range: Range,
    select: &S,
    to: &responses::Sender<S::Response>,
) {
    let mut turn = Turn::begin();
    let mut published = ring.watch();
    let node = ring.node();
    let matches = |event: &CiliumEvent| select.matches(event, &node);
    let start = range.start(&ring, matches, &mut turn).await;
    let mut reader = ring.reader(start);
    let mut sent = 0;
    loop {
        if range.is_done(sent) {
            return;
        }
        match reader.read() {
            Read::Events(chunk, offset) => {
                let node = ring.node();
                for event in chunk.events.iter().skip(offset) {
                    turn.pass().await;
                    // Losses pass every filter and stand in no range.
                    if !matches!(event, CiliumEvent::Lost(_)) {
                        match range.place(time_ns(event)) {
                            Place::Before => continue,
                            Place::After => return,
                            Place::Within if !select.matches(event, &node) => continue,
                            Place::Within => {}
                        }
                        if range.is_done(sent) {
                            return;
                        }
                        sent += 1;
                    }
                    if let Some(response) = select.response(event, &node)
                        && to.send(response, event.bytes()).await.is_err()
                    {
                        return;
                    }
                }
                tokio::task::yield_now().await;
            }
            Read::Missed(events) => {
                ring.count_missed(events);
                if let Some(response) = select.missed(events, &ring.node(), now_ns())
                    && to.send(response, size_of::<S::Response>()).await.is_err()
                {
                    return;
                }
            }
            Read::End if range.follow => {
                if published.changed().await.is_err() {
                    return;
                }
            }
            Read::End => return,
        }
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

struct Flows {
    filters: FlowFilters,
    mask: FieldMask,
}

impl Select for Flows {
    type Response = proto::GetFlowsResponse;

    fn matches(&self, event: &CiliumEvent, node: &Node) -> bool {
        matches!(event, CiliumEvent::Flow(flow) if self.filters.pass(flow, node))
    }

    fn response(&self, event: &CiliumEvent, node: &Node) -> Option<Self::Response> {
        let kind = match event {
            CiliumEvent::Flow(flow) => {
                ResponseTypes::Flow(Box::new(self.mask.apply(convert::flow(flow, node))))
            }
            CiliumEvent::Lost(lost) => ResponseTypes::LostEvents(events::lost(lost)),
            CiliumEvent::Agent(_) | CiliumEvent::Debug(_) => return None,
        };
        Some(flows_response(kind, node, time_ns(event)))
    }

    fn missed(&self, events: u64, node: &Node, unix_ns: u64) -> Option<Self::Response> {
        Some(flows_response(
            ResponseTypes::LostEvents(events::missed(events)),
            node,
            unix_ns,
        ))
    }
}

fn flows_response(kind: ResponseTypes, node: &Node, unix_ns: u64) -> proto::GetFlowsResponse {
    proto::GetFlowsResponse {
        node_name: node.name.clone(),
        time: Some(convert::timestamp(unix_ns)),
        response_types: Some(kind),
    }
}

struct AgentEvents;

impl Select for AgentEvents {
    type Response = proto::GetAgentEventsResponse;

    fn matches(&self, event: &CiliumEvent, _: &Node) -> bool {
        matches!(event, CiliumEvent::Agent(_))
    }

    fn response(&self, event: &CiliumEvent, node: &Node) -> Option<Self::Response> {
        let CiliumEvent::Agent(agent) = event else {
            return None;
        };
        Some(proto::GetAgentEventsResponse {
            node_name: node.name.clone(),
            time: Some(convert::timestamp(agent.time_ns)),
            agent_event: Some(events::agent(agent)),
        })
    }

    fn missed(&self, _: u64, _: &Node, _: u64) -> Option<Self::Response> {
        None
    }
}

struct DebugEvents;

impl Select for DebugEvents {
    type Response = proto::GetDebugEventsResponse;

    fn matches(&self, event: &CiliumEvent, _: &Node) -> bool {
        matches!(event, CiliumEvent::Debug(_))
    }

    fn response(&self, event: &CiliumEvent, node: &Node) -> Option<Self::Response> {
        let CiliumEvent::Debug(debug) = event else {
            return None;
        };
        Some(proto::GetDebugEventsResponse {
            node_name: node.name.clone(),
            time: Some(convert::timestamp(debug.time_ns)),
            debug_event: Some(events::debug(debug)),
        })
    }

    fn missed(&self, _: u64, _: &Node, _: u64) -> Option<Self::Response> {
        None
    }
}

#[tonic::async_trait]
impl Observer for Service {
    type GetFlowsStream = Responses<proto::GetFlowsResponse>;
    type GetAgentEventsStream = Responses<proto::GetAgentEventsResponse>;
    type GetDebugEventsStream = Responses<proto::GetDebugEventsResponse>;

    async fn get_flows(
        &self,
        request: Request<proto::GetFlowsRequest>,
    ) -> Result<Response<Self::GetFlowsStream>, Status> {
        let request = request.into_inner();
        let filters = FlowFilters::compile(&request.whitelist, &request.blacklist)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        // Clients up to 1.18 put the mask among the experimental fields.
        #[allow(deprecated, reason = "clients up to 1.18")]
        let paths = [
            request.field_mask,
            request.experimental.and_then(|e| e.field_mask),
        ]
        .into_iter()
        .flatten()
        .map(|mask| mask.paths)
        .find(|paths| !paths.is_empty())
        .unwrap_or_default();
        let mask = FieldMask::parse(&paths)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let range = Range::new(
            request.number,
            request.first,
            request.follow,
            request.since,
            request.until,
        )?;
        self.stream(range, Flows { filters, mask })
    }

    async fn get_agent_events(
        &self,
        request: Request<proto::GetAgentEventsRequest>,
    ) -> Result<Response<Self::GetAgentEventsStream>, Status> {
        let request = request.into_inner();
        let range = Range::new(
            request.number,
            request.first,
            request.follow,
            request.since,
            request.until,
        )?;
        self.stream(range, AgentEvents)
    }

    async fn get_debug_events(
        &self,
        request: Request<proto::GetDebugEventsRequest>,
    ) -> Result<Response<Self::GetDebugEventsStream>, Status> {
        let request = request.into_inner();
        let range = Range::new(
            request.number,
            request.first,
            request.follow,
            request.since,
            request.until,
        )?;
        self.stream(range, DebugEvents)
    }

    /// This node alone. (Hubble's nodes leave this to the relay.)
    async fn get_nodes(
        &self,
        _: Request<proto::GetNodesRequest>,
    ) -> Result<Response<proto::GetNodesResponse>, Status> {
        let status = self.status();
        let node = proto::Node {
            name: self.ring.node().name.clone(),
            version: status.version,
            address: self.address.to_string(),
            state: NodeState::NodeConnected.into(),
            tls: self.tls.then(|| proto::Tls {
                enabled: true,
                server_name: String::new(),
            }),
            uptime_ns: status.uptime_ns,
            num_flows: status.num_flows,
            max_flows: status.max_flows,
            seen_flows: status.seen_flows,
        };
        Ok(Response::new(proto::GetNodesResponse { nodes: vec![node] }))
    }

    async fn get_namespaces(
        &self,
        _: Request<proto::GetNamespacesRequest>,
    ) -> Result<Response<proto::GetNamespacesResponse>, Status> {
        let seen = self.namespaces.list(now_ns()).into_iter();
        let namespaces = seen
            .map(|(cluster, namespace)| proto::Namespace {
                cluster: cluster.into(),
                namespace: namespace.into(),
            })
            .collect();
        Ok(Response::new(proto::GetNamespacesResponse { namespaces }))
    }

    async fn server_status(
        &self,
        _: Request<proto::ServerStatusRequest>,
    ) -> Result<Response<proto::ServerStatusResponse>, Status> {
        Ok(Response::new(self.status()))
    }
}

impl Service {
    fn status(&self) -> proto::ServerStatusResponse {
        proto::ServerStatusResponse {
            num_flows: self.ring.len() as u64,
            max_flows: self.ring.capacity() as u64,
            seen_flows: self.ring.seen_flows(),
            uptime_ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            version: concat!("netflume v", env!("CARGO_PKG_VERSION")).to_owned(),
            flows_rate: flows_rate(&self.ring, now_ns()),
            ..proto::ServerStatusResponse::default()
        }
    }
}

/// Flows a second over the last minute, or over as much of it as there were flows and the ring still has them.
fn flows_rate(ring: &FlowRing, now_ns: u64) -> f64 {
    const MINUTE_NS: u64 = 60_000_000_000;
    const SECOND_NS: u64 = 1_000_000_000;
    let since = now_ns.saturating_sub(MINUTE_NS);
    let chunks = ring.chunks();
    let times = || {
        chunks
            .iter()
            .flat_map(|chunk| &chunk.events)
            .filter_map(|event| match event {
                CiliumEvent::Flow(flow) => Some(flow.time_ns),
                _ => None,
            })
    };
    let is_whole = chunks.first().is_some_and(|chunk| chunk.first == 0);
    let oldest = if is_whole {
        ring.first_flow_ns()
    } else {
        times().next()
    };
    let from = since.max(oldest.unwrap_or(now_ns));
    let count = times().filter(|time| *time >= since).count();
    // A single flow that has just come makes no thousand a second.
    let elapsed_ns = now_ns.saturating_sub(from).max(SECOND_NS);
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 * 1e9 / elapsed_ns as f64;
    rate
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use netflume_core::model::flow::Flow;

    use super::*;
    use crate::serve::observer::ring::{Capacity, ring};

    const SECOND_NS: u64 = 1_000_000_000;

    /// 100 flows a second from 1,000 s on, `seconds` long, into a ring for so many events.
    fn rate_after(seconds: u64, events: usize) -> f64 {
        let capacity = Capacity {
            events,
            ..Capacity::default()
        };
        let ring = ring(capacity, Arc::default());
        let mut writer = ring.writer();
        let start_ns = 1_000 * SECOND_NS;
        for n in 0..seconds * 100 {
            let time_ns = start_ns + n * SECOND_NS / 100;
            writer.push(CiliumEvent::Flow(Flow {
                time_ns,
                ..Flow::default()
            }));
        }
        writer.flush();
        flows_rate(&ring, start_ns + seconds * SECOND_NS)
    }

    #[test]
    fn the_rate_is_right_from_the_first_seconds_on() {
        for seconds in [1, 2, 6, 59, 60, 61, 600] {
            for events in [1_000, 100_000] {
                let rate = rate_after(seconds, events);
                assert!(
                    (90.0..110.0).contains(&rate),
                    "{rate} after {seconds} s, ring of {events}"
                );
            }
        }
        let empty = ring(Capacity::default(), Arc::default());
        assert!(flows_rate(&empty, SECOND_NS).abs() < f64::EPSILON);
    }
}
