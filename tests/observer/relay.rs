//! Seen with Hubble's own relay, and with grpcurl, which knows no schemas.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use netflume::serve::observer::ObserverOptions;
use netflume_core::model::cilium::CiliumEvent;
use netflume_tests::wait;
use serde_json::Value;
use xtask::partner::{GRPCURL, HUBBLE, RELAY};

use super::server::{self, Server, now_ns};

/// A relay that runs, killed with the test.
struct Relay {
    process: Child,
    address: String,
}

impl Relay {
    fn start(peer_service: &str) -> Result<Self> {
        let [address, health] = [free_address()?, free_address()?];
        let process = Command::new(RELAY.program()?)
            .args(["serve", "--disable-client-tls", "--disable-server-tls"])
            .args(["--gops=false", "--peer-service", peer_service])
            .args(["--listen-address", &address])
            .args(["--health-listen-address", &health])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, address })
    }

    /// What `hubble` prints when it asks the relay; none while it cannot.
    fn hubble(&self, arguments: &str) -> Result<Option<String>> {
        let output = Command::new(HUBBLE.program()?)
            .args(arguments.split_whitespace())
            .args(["--server", &self.address, "--config", "/dev/null"])
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(output.status.success().then_some(text))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// An address that was free a moment ago.
fn free_address() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

fn on(endpoint: String) -> ObserverOptions {
    ObserverOptions {
        endpoint,
        ..ObserverOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Hubble's relay, which cargo xtask setup builds"]
async fn a_relay_lists_this_node_and_hands_on_its_flows() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = format!("unix://{}/hubble.sock", folder.path().display());
    for endpoint in ["127.0.0.1:0".to_owned(), socket] {
        let mut server = Server::start(&on(endpoint)).await?;
        let now = now_ns();
        server.publish([server::packet(now), server::denied(now + 1)].map(CiliumEvent::Flow));
        let relay = Relay::start(&server.endpoint)?;
        let nodes = wait::until("the relay has connected", || {
            let nodes = relay.hubble("list nodes").ok()??;
            nodes.contains("Connected").then_some(nodes)
        })?;
        assert!(nodes.contains("prod/node-a"), "{nodes}");
        let flows = relay.hubble("observe --last 2 -o json")?;
        let flows: Vec<Value> = flows
            .context("flows")?
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let flows: Vec<_> = flows
            .iter()
            .filter(|line| line["flow"].is_object())
            .collect();
        assert_eq!(flows.len(), 2, "{flows:?}");
        assert!(
            flows.iter().all(|line| line["node_name"] == "prod/node-a"),
            "{flows:?}"
        );
        drop(relay);
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs grpcurl, which cargo xtask setup builds"]
async fn grpcurl_needs_no_schemas() -> Result<()> {
    let mut server = Server::start(&on("127.0.0.1:0".to_owned())).await?;
    server.publish([CiliumEvent::Flow(server::packet(now_ns()))]);
    let grpcurl = |arguments: &[&str]| -> Result<String> {
        let output = Command::new(GRPCURL.program()?)
            .arg("-plaintext")
            .args(arguments)
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "grpcurl {arguments:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let services = grpcurl(&[&server.endpoint, "list"])?;
    for service in ["observer.Observer", "peer.Peer"] {
        assert!(services.contains(service), "{services}");
    }
    let flow = grpcurl(&[
        "-d",
        r#"{"number": 1}"#,
        &server.endpoint,
        "observer.Observer/GetFlows",
    ])?;
    let flow: Value = serde_json::from_str(&flow)?;
    assert_eq!(flow["flow"]["source"]["podName"], "web-1", "{flow}");
    server.stop().await
}
