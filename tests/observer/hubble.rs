//! Seen with Hubble's own command line.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use anyhow::{Context, Result, ensure};
use netflume::serve::observer::{ObserverOptions, ObserverTls};
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::otlp::hubble::{self, json};
use netflume_tests::pki::Pki;
use netflume_tests::wait::patience;
use serde_json::Value;
use tempfile::TempDir;
use xtask::partner::HUBBLE;

use super::server::{self, Server, node, now_ns};

const SECOND: u64 = 1_000_000_000;

fn command(server: &Server, arguments: &str) -> Result<Command> {
    let mut command = Command::new(HUBBLE.program()?);
    command.args(arguments.split_whitespace()).args([
        "--server",
        &server.endpoint,
        "--config",
        "/dev/null",
    ]);
    Ok(command)
}

async fn output(server: &Server, arguments: &str) -> Result<String> {
    let mut command = command(server, arguments)?;
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "hubble {arguments}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The lines of `-o json`.
async fn lines(server: &Server, arguments: &str) -> Result<Vec<Value>> {
    let text = output(server, &format!("{arguments} -o json")).await?;
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

/// Flows are told apart by their UUID, which ends in their time.
fn times(lines: &[Value]) -> Vec<u64> {
    let time = |line: &Value| {
        let uuid = line["flow"]["uuid"].as_str()?.replace('-', "");
        u64::from_str_radix(uuid.get(20..)?, 16).ok()
    };
    lines.iter().map(|line| time(line).unwrap_or(0)).collect()
}

async fn on_unix() -> Result<(TempDir, Server)> {
    let folder = TempDir::new()?;
    let options = ObserverOptions {
        endpoint: format!("unix://{}/hubble.sock", folder.path().display()),
        ..ObserverOptions::default()
    };
    let server = Server::start(&options).await?;
    Ok((folder, server))
}

#[tokio::test]
#[ignore = "needs Hubble's command line, which cargo xtask setup builds"]
async fn observe_shows_what_is_in_the_ring() -> Result<()> {
    let (_folder, mut server) = on_unix().await?;
    let start = now_ns() / SECOND * SECOND - 100 * SECOND;
    let at = |seconds: u64| start + seconds * SECOND;
    let flows = [
        server::packet(at(10)),
        server::denied(at(20)),
        server::message(at(30)),
        server::denied(at(40)),
        server::packet(at(50)),
    ];
    server.publish(flows.clone().map(CiliumEvent::Flow));
    server.publish([server::agent(at(51)), server::debug(at(52))]);

    // Field by field what our own JSON says, which the oracle compares with Hubble's.
    for (line, flow) in lines(&server, "observe --last 5").await?.iter().zip(&flows) {
        let mut ours = String::new();
        json::event(&CiliumEvent::Flow(flow.clone()), &node(), &mut ours);
        assert_eq!(line["flow"], serde_json::from_str::<Value>(&ours)?);
        assert_eq!(line["node_name"], "prod/node-a");
    }
    // The last group of a UUID has twelve digits.
    let expected = |seconds: &[u64]| -> Vec<u64> {
        seconds.iter().map(|&s| at(s) & 0xffff_ffff_ffff).collect()
    };
    let since = |seconds: u64| {
        i64::try_from(at(seconds))
            .map_or_else(|_| String::new(), |ns| hubble::time(ns).as_str().to_owned())
    };
    for (arguments, seconds) in [
        ("observe --first 2".to_owned(), &[10, 20][..]),
        ("observe --last 2".to_owned(), &[40, 50]),
        ("observe --all".to_owned(), &[10, 20, 30, 40, 50]),
        (format!("observe --since {}", since(39)), &[40, 50]),
        (
            format!("observe --since {} --until {}", since(19), since(45)),
            &[20, 30, 40],
        ),
        ("observe --last 9 --verdict DROPPED".to_owned(), &[20, 40]),
        (
            "observe --last 9 --not --verdict DROPPED".to_owned(),
            &[10, 30, 50],
        ),
        ("observe --last 1 --verdict DROPPED".to_owned(), &[40]),
        (
            "observe --last 9 --protocol tcp --to-port 5432".to_owned(),
            &[10, 50],
        ),
        (
            "observe --last 9 --from-pod shop/web --to-ip 10.0.0.0/24 --protocol http".to_owned(),
            &[30],
        ),
        (
            "observe --last 9 --http-status 4+ --http-method get --http-path ^/cart$".to_owned(),
            &[30],
        ),
        (
            r"observe --last 9 --http-path ^/[\w-]{1,63}$ --http-path /items/{id} --http-url \pL+\Q?id=\E"
                .to_owned(),
            &[30],
        ),
        ("observe --last 9 --type drop".to_owned(), &[20, 40]),
        (
            "observe --last 9 --type trace:to-stack".to_owned(),
            &[10, 50],
        ),
        (
            "observe --last 9 --drop-reason-desc POLICY_DENIED --to-service shop/db".to_owned(),
            &[20, 40],
        ),
        (
            "observe --last 9 --tcp-flags syn --traffic-direction egress".to_owned(),
            &[10, 50],
        ),
        (
            "observe --last 9 --from-label app=web --to-label app=db --protocol udp".to_owned(),
            &[20, 40],
        ),
        (
            "observe --last 9 --node-name prod/node-* --from-workload shop --ipv4 --type l7"
                .to_owned(),
            &[30],
        ),
        ("observe --last 9 --to-pod other/".to_owned(), &[]),
    ] {
        let lines = lines(&server, &arguments).await?;
        assert_eq!(times(&lines), expected(seconds), "hubble {arguments}");
    }
    let compact = output(&server, "observe --last 1 --verdict DROPPED").await?;
    for part in [
        "shop/web-1:40000",
        "shop/db-0:53",
        "Policy denied",
        "DROPPED",
    ] {
        assert!(compact.contains(part), "{part} in {compact}");
    }
    let masked = lines(
        &server,
        "observe --last 1 --field-mask source.pod_name,verdict",
    )
    .await?;
    assert_eq!(masked[0]["flow"]["source"]["pod_name"], "web-1");
    assert_eq!(
        masked[0]["flow"].as_object().context("a flow")?.len(),
        2,
        "{}",
        masked[0]
    );

    let agent = lines(&server, "observe agent-events --last 5").await?;
    assert_eq!(agent[0]["agent_event"]["policy_update"]["rule_count"], "2");
    let debug = lines(&server, "observe debug-events --last 5").await?;
    assert_eq!(debug[0]["debug_event"]["type"], "DBG_CT_VERDICT");
    server.stop().await
}

#[tokio::test]
#[ignore = "needs Hubble's command line, which cargo xtask setup builds"]
async fn status_and_lists_work() -> Result<()> {
    let (_folder, mut server) = on_unix().await?;
    server.publish([CiliumEvent::Flow(server::packet(now_ns()))]);
    let status = output(&server, "status").await?;
    for part in ["Healthcheck", "Ok", "1/4,095"] {
        assert!(status.contains(part), "{part} in {status}");
    }
    let nodes = output(&server, "list nodes").await?;
    assert!(
        nodes.contains("prod/node-a") && nodes.contains("Connected"),
        "{nodes}"
    );
    let namespaces = output(&server, "list namespaces").await?;
    assert!(namespaces.contains("shop"), "{namespaces}");
    server.stop().await
}

/// A running `hubble`, killed with the test.
struct Running(Child, Receiver<String>);

impl Running {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().context("standard output")?;
        let (to, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self(child, lines))
    }

    fn line(&self) -> Result<Value> {
        let line = self.1.recv_timeout(patience()).context("no line came")?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Hubble's command line, which cargo xtask setup builds"]
async fn follow_shows_new_flows_and_losses_as_they_come() -> Result<()> {
    let (_folder, mut server) = on_unix().await?;
    let now = now_ns();
    server.publish([
        CiliumEvent::Flow(server::packet(now)),
        CiliumEvent::Flow(server::denied(now)),
    ]);
    let follow = Running::start(command(
        &server,
        "observe --follow --last 1 --verdict DROPPED -o json",
    )?)?;
    assert_eq!(follow.line()?["flow"]["verdict"], "DROPPED");
    for i in 1..=3 {
        server.publish([
            CiliumEvent::Flow(server::packet(now + i)),
            CiliumEvent::Flow(server::denied(now + i)),
        ]);
        assert_eq!(
            times(&[follow.line()?]),
            times(&lines(&server, "observe --last 1 --verdict DROPPED").await?)
        );
    }
    server.publish([server::lost(now)]);
    assert_eq!(follow.line()?["lost_events"]["num_events_lost"], "5");
    drop(follow);
    server.stop().await
}

#[tokio::test]
#[ignore = "needs Hubble's command line, which cargo xtask setup builds"]
async fn mutual_tls_works() -> Result<()> {
    let pki = Pki::new()?;
    let options = ObserverOptions {
        endpoint: "127.0.0.1:0".into(),
        tls: Some(ObserverTls {
            cert_file: pki.server_cert_file(),
            key_file: pki.server_key_file(),
            client_ca_file: Some(pki.ca_file()),
        }),
        ..ObserverOptions::default()
    };
    let server = Server::start(&options).await?;
    let tls = format!(
        "--tls --tls-server-name localhost --tls-ca-cert-files {}",
        pki.ca_file().display()
    );
    let (cert, key) = (pki.client_cert_file(), pki.client_key_file());
    let identity = format!(
        "--tls-client-cert-file {} --tls-client-key-file {}",
        cert.display(),
        key.display()
    );
    let status = output(&server, &format!("status {tls} {identity}")).await?;
    assert!(status.contains("Ok"), "{status}");
    assert!(
        output(&server, &format!("status {tls} --timeout 2s"))
            .await
            .is_err()
    );
    server.stop().await
}
