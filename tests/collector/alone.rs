//! The kernel receiver alone, and beside the other one: its threads and its page.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Result, ensure};
use netflume_tests::agent::Agent;
use netflume_tests::monitor::Monitor;
use netflume_tests::page::Page;
use netflume_tests::wait;

const EXTENSIONS: &str = "extensions: { health: { endpoint: \"127.0.0.1:0\" }, prometheus: { endpoint: \"127.0.0.1:0\" } }\n";

#[test]
#[ignore = "needs root and a kernel with BTF"]
fn with_the_kernel_receiver_alone_its_thread_is_watched_and_alive() -> Result<()> {
    let config = format!("receivers: {{ ebpf: {{}} }}\n{EXTENSIONS}");
    let mut agent = Agent::watching(Some(&config), &[])?;
    let health = agent.listens("extensions.health")?;
    agent.threads_are_alive(health, &["ebpf"])?;
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
#[ignore = "needs root and a kernel with BTF"]
fn with_both_receivers_the_threads_of_both_are_watched_and_alive() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let monitor = Monitor::listen(&folder.path().join("monitor1_2.sock"))?;
    let config = format!(
        "receivers: {{ ebpf: {{}}, cilium: {{ socket: {}, api_socket: \"\" }} }}\n{EXTENSIONS}",
        monitor.path().display()
    );
    let mut agent = Agent::watching(Some(&config), &[])?;
    let _client = monitor.accept()?;
    let health = agent.listens("extensions.health")?;
    agent.threads_are_alive(health, &["cilium", "cilium-read", "ebpf"])?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// The interval is an hour, so what the page has of an open connection it has asked for.
#[test]
#[ignore = "needs root and a kernel with BTF"]
fn a_page_is_collected_when_it_is_asked_for_and_has_totals_beside_delta() -> Result<()> {
    let config = format!(
        "receivers: {{ ebpf: {{ interval: 1h }} }}\nmetrics: {{ temporality: delta }}\n{EXTENSIONS}"
    );
    let mut agent = Agent::watching(Some(&config), &[])?;
    let page = agent.listens("extensions.prometheus")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port().to_string();
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    let mut sent = 0;
    for bytes in [1_000, 20_000, 300_000] {
        client.write_all(&vec![1; bytes])?;
        server.read_exact(&mut vec![0; bytes])?;
        sent += bytes as u64;
        let labels = [
            ("server_port", port.as_str()),
            ("network_io_direction", "transmit"),
        ];
        wait::until("the bytes so far are on the page", || {
            let page = Page::read(page).ok()?;
            (page.count("network_flow_io_bytes_total", &labels) == sent).then_some(())
        })?;
    }
    drop((client, server));
    ensure!(agent.stop()?.success());
    Ok(())
}
