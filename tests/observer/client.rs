//! Seen with a plain gRPC client: limits, slowness, masks.

use anyhow::{Context, Result, bail};
use netflume::proto::observer::get_flows_response::ResponseTypes;
use netflume::proto::observer::observer_client::ObserverClient;
use netflume::proto::observer::{
    GetAgentEventsRequest, GetFlowsRequest, GetNamespacesRequest, GetNodesRequest,
    ServerStatusRequest,
};
use netflume::serve::observer::{self, Capacity, ObserverError, ObserverOptions, ObserverTls};
use netflume_core::ledger::Stage;
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::proto::flow::FlowFilter;
use netflume_tests::wait::patience;
use prost_types::FieldMask;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::server::{self, Server, now_ns};

fn on_loopback() -> ObserverOptions {
    ObserverOptions {
        endpoint: "127.0.0.1:0".into(),
        ..ObserverOptions::default()
    }
}

async fn connect(server: &Server) -> Result<ObserverClient<Channel>> {
    Ok(ObserverClient::connect(format!("http://{}", server.endpoint)).await?)
}

async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>> {
    Ok(tokio::time::timeout(patience(), stream.message())
        .await
        .context("nothing came")??)
}

/// Times of flows; a loss is its negated count.
async fn drain(
    stream: &mut Streaming<netflume::proto::observer::GetFlowsResponse>,
) -> Result<Vec<i64>> {
    let mut seen = Vec::new();
    while let Some(response) = next(stream).await? {
        match response.response_types {
            Some(ResponseTypes::Flow(flow)) => {
                seen.push(i64::from(flow.time.map_or(-1, |time| time.nanos)))
            }
            Some(ResponseTypes::LostEvents(lost)) => {
                seen.push(-i64::try_from(lost.num_events_lost)?)
            }
            other => bail!("{other:?}"),
        }
    }
    Ok(seen)
}

#[tokio::test]
async fn flows_come_filtered_in_order_with_losses_between_them() -> Result<()> {
    let mut server = Server::start(&on_loopback()).await?;
    let flows = (1..=6).map(|i| {
        if i % 2 == 0 {
            server::denied(i)
        } else {
            server::packet(i)
        }
    });
    let mut events: Vec<_> = flows.map(CiliumEvent::Flow).collect();
    events.insert(2, server::lost(2));
    events.insert(3, server::agent(2));
    server.publish(events);
    let mut client = connect(&server).await?;
    let dropped: FlowFilter = serde_json::from_str(r#"{"verdict":["DROPPED"]}"#)?;
    let request = |number, whitelist: &[FlowFilter], blacklist: &[FlowFilter]| GetFlowsRequest {
        number,
        whitelist: whitelist.to_vec(),
        blacklist: blacklist.to_vec(),
        ..GetFlowsRequest::default()
    };
    let filter = std::slice::from_ref(&dropped);
    for (request, expected) in [
        (request(0, &[], &[]), vec![1, 2, -5, 3, 4, 5, 6]),
        (request(0, filter, &[]), vec![2, -5, 4, 6]),
        (request(0, &[], filter), vec![1, -5, 3, 5]),
        (request(2, filter, &[]), vec![4, 6]),
    ] {
        let mut stream = client.get_flows(request).await?.into_inner();
        assert_eq!(drain(&mut stream).await?, expected);
    }
    let mut agent = client
        .get_agent_events(GetAgentEventsRequest::default())
        .await?
        .into_inner();
    let event = next(&mut agent).await?.context("an agent event")?;
    assert_eq!(event.agent_event.map(|event| event.r#type), Some(3));
    assert_eq!(event.node_name, "prod/node-a");
    assert!(next(&mut agent).await?.is_none());
    server.stop().await
}

#[tokio::test]
async fn a_slow_client_is_told_what_it_missed_and_the_pipeline_does_not_wait() -> Result<()> {
    let options = ObserverOptions {
        capacity: Capacity {
            events: 512,
            ..Capacity::default()
        },
        ..on_loopback()
    };
    let mut server = Server::start(&options).await?;
    let mut client = connect(&server).await?;
    let request = GetFlowsRequest {
        follow: true,
        ..GetFlowsRequest::default()
    };
    let mut stream = client.get_flows(request).await?.into_inner();
    // The request has begun once it gets its first flow.
    let (mut sent, mut first) = (0, None);
    while first.is_none() {
        sent += 1;
        server.publish([CiliumEvent::Flow(server::packet(sent))]);
        first = tokio::time::timeout(std::time::Duration::from_millis(20), stream.message())
            .await
            .ok();
    }
    let first = first.context("a flow")??.context("an open stream")?;
    let Some(ResponseTypes::Flow(flow)) = first.response_types else {
        bail!("{first:?}");
    };
    let began = u64::try_from(flow.time.map_or(0, |time| time.nanos))?;
    // Far more than windows and ring hold, while the client reads nothing.
    let total = 20_000;
    for i in sent + 1..=total {
        server.publish([CiliumEvent::Flow(server::packet(i))]);
    }
    let (mut flows, mut missed, mut last) = (1, 0, began);
    while last < total {
        let response = next(&mut stream).await?.context("an open stream")?;
        match response.response_types {
            Some(ResponseTypes::Flow(flow)) => {
                flows += 1;
                last = u64::try_from(flow.time.map_or(0, |time| time.nanos))?;
            }
            Some(ResponseTypes::LostEvents(lost)) => {
                assert_eq!(lost.source, 3, "HUBBLE_RING_BUFFER");
                missed += lost.num_events_lost;
            }
            other => bail!("{other:?}"),
        }
    }
    assert!(missed > 0);
    assert_eq!(
        flows + missed,
        total - began + 1,
        "every flow was either seen or reported as missed"
    );
    assert_eq!(server.ring.missed(), missed);
    let entry = server.ledger.entry(Stage::Observer);
    assert_eq!(entry.received, total);
    assert_eq!(entry.held(), i128::try_from(server.ring.len())?);
    server.stop().await
}

#[tokio::test]
async fn more_clients_than_configured_are_turned_away() -> Result<()> {
    let options = ObserverOptions {
        max_clients: 2,
        ..on_loopback()
    };
    let server = Server::start(&options).await?;
    let mut client = connect(&server).await?;
    let request = || GetFlowsRequest {
        follow: true,
        ..GetFlowsRequest::default()
    };
    let first = client.get_flows(request()).await?;
    let _second = client.get_flows(request()).await?;
    let third = client
        .get_flows(request())
        .await
        .err()
        .context("a refusal")?;
    assert_eq!(third.code(), Code::ResourceExhausted);
    assert!(third.message().contains('2'), "{third}");
    // Status is still to be had, and a place is free when a client has gone.
    client.server_status(ServerStatusRequest {}).await?;
    drop(first);
    tokio::time::timeout(patience(), async {
        while client.get_flows(request()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    server.stop().await
}

#[tokio::test]
async fn masks_and_wrong_requests_are_understood() -> Result<()> {
    let mut server = Server::start(&on_loopback()).await?;
    server.publish([CiliumEvent::Flow(server::packet(5))]);
    let mut client = connect(&server).await?;
    let masked = |paths: &[&str]| GetFlowsRequest {
        field_mask: Some(FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }),
        ..GetFlowsRequest::default()
    };
    let mut stream = client
        .get_flows(masked(&["source.pod_name", "verdict"]))
        .await?
        .into_inner();
    let response = next(&mut stream).await?.context("a flow")?;
    assert_eq!(
        (
            response.node_name.as_str(),
            response.time.map(|time| time.nanos)
        ),
        ("prod/node-a", Some(5))
    );
    let Some(ResponseTypes::Flow(flow)) = response.response_types else {
        bail!("no flow");
    };
    let source = flow.source.clone().context("a source")?;
    assert_eq!(
        (source.pod_name.as_str(), source.id, flow.verdict),
        ("web-1", 0, 1)
    );
    assert!(flow.time.is_none() && flow.destination.is_none());

    let filtered = |json: &str| -> Result<GetFlowsRequest> {
        Ok(GetFlowsRequest {
            whitelist: vec![serde_json::from_str(json)?],
            ..GetFlowsRequest::default()
        })
    };
    let both_ends = GetFlowsRequest {
        first: true,
        follow: true,
        ..GetFlowsRequest::default()
    };
    for (request, said) in [
        (masked(&["source.nope"]), "source.nope"),
        (filtered(r#"{"source_ip":["x"]}"#)?, "source_ip"),
        (
            filtered(r#"{"experimental":{"cel_expression":["true"]}}"#)?,
            "CEL",
        ),
        (both_ends, "follow"),
    ] {
        let status = client.get_flows(request).await.err().context("a refusal")?;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(said), "{status}");
    }
    server.stop().await
}

#[tokio::test]
async fn status_nodes_and_namespaces_are_told() -> Result<()> {
    let mut server = Server::start(&on_loopback()).await?;
    let now = now_ns();
    server.publish((0..60).map(|i| CiliumEvent::Flow(server::packet(now - i * 1_000_000))));
    server.publish([server::agent(now)]);
    let mut client = connect(&server).await?;
    let status = client
        .server_status(ServerStatusRequest {})
        .await?
        .into_inner();
    assert_eq!(
        (status.num_flows, status.max_flows, status.seen_flows),
        (61, 4095, 60)
    );
    assert!(
        status.uptime_ns > 0 && status.flows_rate > 0.0 && status.flows_rate <= 60.0,
        "{}",
        status.flows_rate
    );
    let nodes = client
        .get_nodes(GetNodesRequest {})
        .await?
        .into_inner()
        .nodes;
    assert_eq!(
        (nodes[0].name.as_str(), &nodes[0].address, nodes[0].state),
        ("prod/node-a", &server.endpoint, 1)
    );
    let namespaces = tokio::time::timeout(patience(), async {
        loop {
            let response = client
                .get_namespaces(GetNamespacesRequest {})
                .await?
                .into_inner();
            if !response.namespaces.is_empty() {
                return Ok::<_, anyhow::Error>(response.namespaces);
            }
        }
    })
    .await??;
    assert_eq!(
        (
            namespaces.len(),
            namespaces[0].cluster.as_str(),
            namespaces[0].namespace.as_str()
        ),
        (1, "prod", "shop")
    );
    server.stop().await
}

#[tokio::test]
async fn streams_end_when_the_server_stops() -> Result<()> {
    let server = Server::start(&on_loopback()).await?;
    let mut client = connect(&server).await?;
    let request = GetFlowsRequest {
        follow: true,
        ..GetFlowsRequest::default()
    };
    let mut stream = client.get_flows(request).await?.into_inner();
    server.stop().await?;
    assert!(matches!(next(&mut stream).await, Ok(None) | Err(_)));
    Ok(())
}

#[tokio::test]
async fn endpoints_that_cannot_be_are_refused_with_the_reason() -> Result<()> {
    let folder = TempDir::new()?;
    let ring = observer::ring(Capacity::default(), Default::default());
    let bind = async |endpoint: &str, tls: Option<ObserverTls>| {
        let options = ObserverOptions {
            endpoint: endpoint.to_owned(),
            tls,
            ..ObserverOptions::default()
        };
        observer::bind(&options, ring.clone()).await
    };
    let refused = bind("0.0.0.0:0", None).await.err().context("refused")?;
    assert!(
        matches!(refused, ObserverError::PlainTextBeyondLoopback(_)),
        "{refused}"
    );
    assert!(refused.to_string().contains("tls"), "{refused}");
    let missing = ObserverTls {
        cert_file: folder.path().join("none.pem"),
        ..ObserverTls::default()
    };
    let refused = bind("127.0.0.1:0", Some(missing))
        .await
        .err()
        .context("refused")?;
    assert!(refused.to_string().contains("none.pem"), "{refused}");

    // A socket that answers is not taken; one that a killed run left behind is.
    let path = folder.path().join("sub/hubble.sock");
    let endpoint = format!("unix://{}", path.display());
    let first = bind(&endpoint, None).await?;
    let refused = bind(&endpoint, None).await.err().context("refused")?;
    assert!(matches!(refused, ObserverError::Listen { .. }), "{refused}");
    drop(first);
    assert!(!path.exists());
    drop(std::os::unix::net::UnixListener::bind(&path)?);
    assert!(path.exists(), "left behind");
    bind(&endpoint, None).await?;
    std::fs::write(&path, "no socket")?;
    let refused = bind(&endpoint, None).await.err().context("refused")?;
    let text = refused.to_string();
    assert!(
        text.contains("hubble.sock") && text.contains("a file is in its place"),
        "{text}"
    );
    assert!(path.exists(), "what is not ours stays");
    Ok(())
}
