//! Connections of this machine, from the kernel into the Collector's file: every field of the log records.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;

use anyhow::Result;
use netflume_tests::collector::Collector;
use netflume_tests::traffic;
use serde_json::{Value, json};

use crate::support::{both_ends_are_exact, records, watch};

#[test]
#[ignore = "needs root, a BTF kernel and the Collector"]
fn every_field_of_a_tcp_connection_arrives() -> Result<()> {
    let collector = Collector::start()?;
    let exchange = watch(&collector, || {
        traffic::tcp(Ipv4Addr::LOCALHOST.into(), 12_345, 67_890)
    })?;
    both_ends_are_exact(&collector, &exchange)?;

    let record = &records(&collector, &exchange, "outgoing")?[0];
    let mut body = record.body.as_object().cloned().unwrap_or_default();
    // What differs from run to run is checked by its range and taken out.
    let rtt = body.remove("rtt").and_then(|rtt| rtt.as_u64());
    assert!(
        rtt.is_some_and(|rtt| rtt > 0 && rtt < 1_000_000),
        "rtt {rtt:?}"
    );
    let rtt_var = body.remove("rtt_var").and_then(|rtt| rtt.as_u64());
    assert!(
        rtt_var.is_some_and(|rtt| rtt < 1_000_000),
        "rtt_var {rtt_var:?}"
    );
    let netns = std::fs::metadata("/proc/self/ns/net")?.ino().to_string();
    let executable = std::env::current_exe()?;
    let name = executable.file_name().unwrap_or_default().to_string_lossy();
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    assert_eq!(
        Value::Object(body),
        json!({
            "direction": "outgoing",
            "src_ip": "127.0.0.1",
            "src_port": "*",
            "src_ip_type": "loopback",
            "dst_ip": "127.0.0.1",
            "dst_port": exchange.server.port().to_string(),
            "dst_ip_type": "loopback",
            "family": "IPv4",
            "pid": std::process::id().to_string(),
            "process_name": name,
            "transport": "tcp",
            "source": "netflow",
            "host": host,
            "netns": netns,
            "conn_side": "client",
            "bytes_read": 67_890,
            "bytes_written": 12_345,
            "retransmits": 0,
            "tcp_closed": 1,
            "tcp_established": 1,
        })
    );
    Ok(())
}

#[test]
#[ignore = "needs root, a BTF kernel and the Collector"]
fn byte_counts_are_exact_for_both_transports_and_families() -> Result<()> {
    let collector = Collector::start()?;
    let exchanges = watch(&collector, || {
        let mut exchanges = Vec::new();
        for ip in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            exchanges.push(traffic::tcp(ip, 1, 1_000_000)?);
            exchanges.push(traffic::udp(ip, 7, 100, 1_000)?);
        }
        Ok(exchanges)
    })?;
    for exchange in exchanges {
        both_ends_are_exact(&collector, &exchange)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, a BTF kernel and the Collector"]
fn exporting_causes_no_records() -> Result<()> {
    let collector = Collector::start()?;
    let exchange = watch(&collector, || {
        traffic::tcp(Ipv4Addr::LOCALHOST.into(), 10, 10)
    })?;
    both_ends_are_exact(&collector, &exchange)?;
    let port = collector.port().to_string();
    for log in collector.logs()? {
        let own = log.body["src_port"] == port.as_str() || log.body["dst_port"] == port.as_str();
        assert!(!own, "{log:#?}");
    }
    Ok(())
}
