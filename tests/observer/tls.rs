//! TLS of the Observer API, seen with a plain gRPC client.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use netflume::proto::observer::observer_client::ObserverClient;
use netflume::proto::observer::{GetFlowsRequest, ServerStatusRequest};
use netflume::serve::observer::{ObserverOptions, ObserverTls};
use netflume_core::model::cilium::CiliumEvent;
use netflume_tests::pki::Pki;
use netflume_tests::wait::patience;
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::server::{self, Server};

fn options(
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
) -> ObserverOptions {
    ObserverOptions {
        endpoint: "0.0.0.0:0".into(),
        tls: Some(ObserverTls {
            cert_file,
            key_file,
            client_ca_file,
        }),
        ..ObserverOptions::default()
    }
}

/// A client that trusts one authority, and shows its certificate or none.
async fn client(
    server: &Server,
    pki: &Pki,
    with_certificate: bool,
) -> Result<ObserverClient<Channel>> {
    let port = server.endpoint.parse::<SocketAddr>()?.port();
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(fs::read(pki.ca_file())?))
        .domain_name("localhost");
    if with_certificate {
        let (cert, key) = (
            fs::read(pki.client_cert_file())?,
            fs::read(pki.client_key_file())?,
        );
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let channel = Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?
        .tls_config(tls)?
        .connect()
        .await?;
    Ok(ObserverClient::new(channel))
}

/// Connects and asks for the status.
async fn status(server: &Server, pki: &Pki, with_certificate: bool) -> Result<()> {
    let mut client = client(server, pki, with_certificate).await?;
    client.server_status(ServerStatusRequest {}).await?;
    Ok(())
}

#[tokio::test]
async fn beyond_loopback_only_tls_answers_and_mutual_tls_wants_a_certificate() -> Result<()> {
    let pki = Pki::new()?;
    let options = |client_ca| options(pki.server_cert_file(), pki.server_key_file(), client_ca);
    let server = Server::start(&options(None)).await?;
    status(&server, &pki, false).await?;
    server.stop().await?;
    let server = Server::start(&options(Some(pki.ca_file()))).await?;
    status(&server, &pki, true).await?;
    assert!(status(&server, &pki, false).await.is_err());
    server.stop().await
}

/// Files that are replaced while a server uses them.
struct Files(TempDir);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, from: &Path) -> Result<()> {
        // Renamed over the old one, as tools that renew certificates do.
        fs::copy(from, self.path("new"))?;
        Ok(fs::rename(self.path("new"), self.path(name))?)
    }
}

#[tokio::test]
async fn new_connections_get_the_certificate_that_is_there_and_old_ones_go_on() -> Result<()> {
    let (old, new) = (Pki::new()?, Pki::new()?);
    let files = Files(tempfile::tempdir()?);
    files.put("cert", &old.server_cert_file())?;
    files.put("key", &old.server_key_file())?;
    files.put("client-ca", &old.ca_file())?;
    let [cert, key, ca] = ["cert", "key", "client-ca"].map(|name| files.path(name));
    let mut server = Server::start(&options(cert, key, Some(ca))).await?;
    let follow = GetFlowsRequest {
        follow: true,
        ..GetFlowsRequest::default()
    };
    let mut before = client(&server, &old, true).await?;
    let mut stream = before.get_flows(follow).await?.into_inner();

    // A certificate whose key is not there yet cannot be used: the old pair stays.
    files.put("cert", &new.server_cert_file())?;
    status(&server, &old, true).await?;
    files.put("key", &new.server_key_file())?;
    files.put("client-ca", &new.ca_file())?;
    status(&server, &new, true).await?;
    assert!(status(&server, &old, true).await.is_err());

    server.publish([CiliumEvent::Flow(server::packet(1))]);
    let flow = tokio::time::timeout(patience(), stream.message()).await??;
    flow.context("the stream from before goes on")?;
    server.stop().await
}

/// A client that connects and does not shake hands keeps only its own place.
#[tokio::test]
async fn a_client_without_a_handshake_keeps_the_others_from_nothing() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::start(&options(
        pki.server_cert_file(),
        pki.server_key_file(),
        None,
    ))
    .await?;
    let port = server.endpoint.parse::<SocketAddr>()?.port();
    let _silent = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    tokio::time::timeout(patience(), status(&server, &pki, false)).await??;
    server.stop().await
}

/// Before anything listens, not at the first handshake.
#[tokio::test]
async fn files_that_make_no_certificate_are_refused_at_the_start() -> Result<()> {
    let pki = Pki::new()?;
    let (cert, key) = (pki.server_cert_file(), pki.server_key_file());
    let folder = tempfile::tempdir()?;
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "nothing")?;
    for (options, words) in [
        (
            options(empty.clone(), key.clone(), None),
            &["empty.pem", "server.key"][..],
        ),
        (
            options(cert.clone(), empty.clone(), None),
            &["server.pem", "empty.pem"],
        ),
        (
            options(cert.clone(), pki.client_key_file(), None),
            &["server.pem", "client.key", "do not belong together"],
        ),
        (
            options(cert.clone(), key.clone(), Some(empty)),
            &["tls.client_ca_file"],
        ),
        (
            options(cert, key.clone(), Some(key)),
            &["tls.client_ca_file"],
        ),
    ] {
        let refused = Server::start(&options).await.err().context("refused")?;
        let text = refused.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    Ok(())
}
