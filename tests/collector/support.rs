//! What the tests of connections share: a run of netflume beside real traffic, and the records of one connection.

use anyhow::{Result, bail};
use netflume_tests::agent::Agent;
use netflume_tests::collector::Collector;
use netflume_tests::otlp_json::Log;
use netflume_tests::traffic::Exchange;
use netflume_tests::wait;

/// Runs netflume, told by one variable where the Collector is, while `traffic` is made, and stops it: all is sent then.
pub(crate) fn watch<T>(collector: &Collector, traffic: impl FnOnce() -> Result<T>) -> Result<T> {
    let endpoint = collector.endpoint();
    let mut agent = Agent::watching(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)])?;
    let done = traffic()?;
    let status = agent.stop()?;
    if !status.success() {
        bail!("{status}: {}", agent.stderr());
    }
    Ok(done)
}

/// The `netflow` records of one end of an exchange: the server's port tells which.
pub(crate) fn records(
    collector: &Collector,
    exchange: &Exchange,
    direction: &str,
) -> Result<Vec<Log>> {
    let key = if direction == "outgoing" {
        "dst_port"
    } else {
        "src_port"
    };
    let port = exchange.server.port().to_string();
    let transport = if exchange.packets == 0 { "tcp" } else { "udp" };
    let mut logs = collector.logs()?;
    logs.retain(|log| {
        log.event_name == "netflow"
            && log.body["direction"] == direction
            && log.body["transport"] == transport
            && log.body[key] == *port
    });
    Ok(logs)
}

/// The sum of an integer field.
pub(crate) fn total(records: &[Log], field: &str) -> u64 {
    records
        .iter()
        .filter_map(|log| log.body[field].as_u64())
        .sum()
}

/// Waits until both ends of the exchange are told, each with just what it did: nothing missing, nothing twice.
pub(crate) fn both_ends_are_exact(collector: &Collector, exchange: &Exchange) -> Result<()> {
    for (direction, sent, received) in [
        ("outgoing", exchange.request_bytes, exchange.reply_bytes),
        ("incoming", exchange.reply_bytes, exchange.request_bytes),
    ] {
        let expected = match exchange.packets {
            0 => [sent, received, 1, 1, 0, 0],
            packets => [sent, received, 0, 0, packets, packets],
        };
        let mut told = [0; 6];
        wait::until("the records of an exchange", || {
            let records = records(collector, exchange, direction).ok()?;
            told = [
                "bytes_written",
                "bytes_read",
                "tcp_established",
                "tcp_closed",
                "packets_written",
                "packets_read",
            ]
            .map(|field| total(&records, field));
            (told == expected).then_some(())
        })
        .map_err(|error| {
            let records = records(collector, exchange, direction);
            error.context(format!("{direction} {exchange:?}: {told:?}\n{records:#?}"))
        })?;
    }
    Ok(())
}
