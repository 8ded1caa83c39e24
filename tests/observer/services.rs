//! The services beside the Observer: peers for relays, reflection for clients without schemas.

use anyhow::{Context as _, Result, bail};
use netflume::proto::peer::peer_client::PeerClient;
use netflume::proto::peer::{ChangeNotification, NotifyRequest};
use netflume::serve::observer::{ObserverOptions, ObserverTls};
use netflume_core::model::flow::Node;
use netflume_tests::pki::Pki;
use netflume_tests::wait::patience;
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::server::Server;

async fn next(stream: &mut Streaming<ChangeNotification>) -> Result<ChangeNotification> {
    let next = tokio::time::timeout(patience(), stream.message()).await??;
    next.context("an open stream")
}

#[tokio::test]
async fn a_relay_learns_of_this_node_by_the_address_of_its_connection_and_of_a_new_name()
-> Result<()> {
    let options = ObserverOptions {
        endpoint: "127.0.0.1:0".into(),
        ..ObserverOptions::default()
    };
    let server = Server::start(&options).await?;
    let mut client = PeerClient::connect(format!("http://{}", server.endpoint)).await?;
    let mut stream = client.notify(NotifyRequest {}).await?.into_inner();
    let added = next(&mut stream).await?;
    assert_eq!(
        (added.name.as_str(), &added.address, added.r#type, added.tls),
        ("prod/node-a", &server.endpoint, 1, None)
    );
    server.writer.set_node(Node {
        name: "prod/node-b".into(),
        ..Node::default()
    });
    let mut changes = Vec::new();
    for _ in 0..2 {
        let change = next(&mut stream).await?;
        changes.push((change.name, change.r#type));
    }
    assert_eq!(
        changes,
        [("prod/node-a".to_owned(), 2), ("prod/node-b".to_owned(), 1)]
    );
    server.stop().await?;
    assert!(matches!(stream.message().await, Ok(None) | Err(_)));
    Ok(())
}

#[tokio::test]
async fn a_server_on_all_addresses_is_reached_by_the_one_that_was_asked_and_names_its_certificate()
-> Result<()> {
    let pki = Pki::new()?;
    let options = ObserverOptions {
        endpoint: "0.0.0.0:0".into(),
        tls: Some(ObserverTls {
            cert_file: pki.server_cert_file(),
            key_file: pki.server_key_file(),
            client_ca_file: None,
        }),
        ..ObserverOptions::default()
    };
    let server = Server::start(&options).await?;
    let (_, port) = server.endpoint.rsplit_once(':').context("a port")?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(std::fs::read(pki.ca_file())?))
        .domain_name("localhost");
    let channel = Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?
        .tls_config(tls)?
        .connect()
        .await?;
    let mut stream = PeerClient::new(channel)
        .notify(NotifyRequest {})
        .await?
        .into_inner();
    let added = next(&mut stream).await?;
    assert_eq!(added.address, format!("127.0.0.1:{port}"));
    let name = added.tls.map(|tls| tls.server_name);
    assert_eq!(name.as_deref(), Some("node-a.prod.hubble-grpc.cilium.io"));
    server.stop().await
}

/// Asks one question of the reflection service.
async fn reflected(
    client: &mut ServerReflectionClient<Channel>,
    question: MessageRequest,
) -> Result<MessageResponse> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await?;
    let answer: Option<ServerReflectionResponse> =
        tokio::time::timeout(patience(), answers.into_inner().message()).await??;
    answer
        .and_then(|answer| answer.message_response)
        .context("an answer")
}

#[tokio::test]
async fn clients_without_schemas_find_every_service_and_its_messages() -> Result<()> {
    let options = ObserverOptions {
        endpoint: "127.0.0.1:0".into(),
        ..ObserverOptions::default()
    };
    let server = Server::start(&options).await?;
    let channel = Endpoint::from_shared(format!("http://{}", server.endpoint))?
        .connect()
        .await?;
    let mut client = ServerReflectionClient::new(channel);
    let MessageResponse::ListServicesResponse(list) =
        reflected(&mut client, MessageRequest::ListServices(String::new())).await?
    else {
        bail!("no list");
    };
    let services: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for service in ["observer.Observer", "peer.Peer", "grpc.health.v1.Health"] {
        assert!(services.contains(&service), "{services:?}");
    }
    // Whatever a schema refers to is there too: grpcurl asks until nothing is missing.
    for symbol in [
        "observer.Observer.GetFlows",
        "flow.Flow",
        "google.protobuf.Timestamp",
        "google.protobuf.FieldMask",
    ] {
        let question = MessageRequest::FileContainingSymbol(symbol.to_owned());
        let answer = reflected(&mut client, question).await?;
        assert!(
            matches!(answer, MessageResponse::FileDescriptorResponse(_)),
            "{symbol}: {answer:?}"
        );
    }
    server.stop().await
}
