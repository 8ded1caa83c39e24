//! The `extensions` keys: what others may ask of the running program.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::Config;
use crate::config::schema::Row;
use crate::config::value::Limits;
use crate::serve::observer::{Capacity, ObserverOptions, ObserverTls};

/// `extensions.health`: `/livez`, `/readyz` and `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Where it listens, `host:port`.
    pub endpoint: String,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:13133".to_owned(),
        }
    }
}

/// `extensions.prometheus`: `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prometheus {
    /// Where it listens, `host:port`.
    pub endpoint: String,
}

impl Default for Prometheus {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:9466".to_owned(),
        }
    }
}

/// `extensions.hubble_observer`: the Observer API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubbleObserver {
    /// `unix:///path` or `host:port`.
    pub endpoint: String,
    /// Events that the ring keeps.
    pub capacity: usize,
    /// Bytes of memory that they take at most.
    pub capacity_bytes: usize,
    /// Streams that are served at a time.
    pub max_clients: usize,
    /// Our certificate chain, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// Authorities of the clients that are let in, PEM.
    pub client_ca_file: Option<PathBuf>,
}

impl Default for HubbleObserver {
    fn default() -> Self {
        let ObserverOptions {
            endpoint,
            capacity,
            max_clients,
            tls: _,
        } = ObserverOptions::default();
        Self {
            endpoint,
            capacity: capacity.events,
            capacity_bytes: capacity.bytes,
            max_clients,
            cert_file: None,
            key_file: None,
            client_ca_file: None,
        }
    }
}

impl HubbleObserver {
    /// What the server is started with.
    #[must_use]
    pub fn options(&self) -> ObserverOptions {
        let tls = self.cert_file.as_ref().zip(self.key_file.as_ref());
        ObserverOptions {
            endpoint: self.endpoint.clone(),
            capacity: Capacity {
                events: self.capacity,
                bytes: self.capacity_bytes,
            },
            max_clients: self.max_clients,
            tls: tls.map(|(cert_file, key_file)| ObserverTls {
                cert_file: cert_file.clone(),
                key_file: key_file.clone(),
                client_ca_file: self.client_ca_file.clone(),
            }),
        }
    }

    /// What does not go together: the key, and what to do.
    #[must_use]
    pub fn conflicts(&self) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        let has_tls = self.cert_file.is_some() && self.key_file.is_some();
        if self.cert_file.is_some() != self.key_file.is_some()
            || self.client_ca_file.is_some() && !has_tls
        {
            found.push((
                "extensions.hubble_observer.tls",
                "TLS needs both `cert_file` and `key_file`",
            ));
        } else if has_tls && self.endpoint.starts_with("unix:") {
            found.push((
                "extensions.hubble_observer.tls",
                "goes with a TCP endpoint only; a unix socket is guarded by its file permissions",
            ));
        } else if !has_tls && !is_on_this_host(&self.endpoint) {
            found.push((
                "extensions.hubble_observer.endpoint",
                "other hosts could read flows in plain text: set `tls`, or listen on 127.0.0.1, [::1], localhost or a unix socket",
            ));
        }
        found
    }
}

/// Whether only this host can reach a listener there, as far as the text tells.
fn is_on_this_host(endpoint: &str) -> bool {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    endpoint.starts_with("unix:")
        || host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

/// `unix:///path`, or an address and port.
#[must_use]
pub fn is_observer_endpoint(text: &str) -> bool {
    match text.strip_prefix("unix:") {
        Some(path) => {
            let path = path.strip_prefix("//").unwrap_or(path);
            path.len() > 1 && path.starts_with('/')
        }
        None => is_listen_endpoint(text),
    }
}

fn observer(config: &mut Config) -> &mut HubbleObserver {
    config.extensions.hubble_observer.get_or_insert_default()
}

/// Where a server may listen: a host name or address and a port.
const LISTEN: Limits = Limits::Text(
    is_listen_endpoint,
    "an address and port to listen on, such as `127.0.0.1:13133`, `[::1]:13133` or `0.0.0.0:13133`",
);

fn is_listen_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_is_valid = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
        }
    };
    host_is_valid && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// The keys.
pub const ROWS: &[Row] = &[
    Row::group(
        "extensions",
        "What others may ask of the running program. An extension runs when its key is there; without `extensions`, `receivers.cilium` brings `hubble_observer`.",
    ),
    Row::component(
        "extensions.health",
        "Health over HTTP: `/livez` (the main loop turns), `/readyz` (the sources started), `/` (both, as JSON).",
        |c| c.extensions.health.is_some(),
        |c, on| c.extensions.health = on.then(|| c.extensions.health.take().unwrap_or_default()),
    ),
    Row::value(
        "extensions.health.endpoint",
        LISTEN,
        |c| &mut c.extensions.health.get_or_insert_default().endpoint,
        "Where it listens.",
    ),
    Row::component(
        "extensions.prometheus",
        "Metrics for Prometheus to fetch, at `/metrics`: what is sent by OTLP, and our own books.",
        |c| c.extensions.prometheus.is_some(),
        |c, on| {
            c.extensions.prometheus =
                on.then(|| c.extensions.prometheus.take().unwrap_or_default());
        },
    ),
    Row::value(
        "extensions.prometheus.endpoint",
        LISTEN,
        |c| &mut c.extensions.prometheus.get_or_insert_default().endpoint,
        "Where it listens.",
    ),
    Row::component(
        "extensions.hubble_observer",
        "Hubble's Observer API over the flows of `receivers.cilium`, for `hubble observe`, user interfaces and relays, which find this node by it.",
        |c| c.extensions.hubble_observer.is_some(),
        |c, on| {
            if on {
                observer(c);
            } else {
                c.extensions.hubble_observer = None;
            }
        },
    ),
    Row::value(
        "extensions.hubble_observer.endpoint",
        Limits::Text(
            is_observer_endpoint,
            "a unix socket such as `unix:///var/run/netflume/hubble.sock`, or an address and port such as `127.0.0.1:4244`",
        ),
        |c| &mut observer(c).endpoint,
        "Where it listens (`hubble --server`): a unix socket, or `host:port`; beyond this host only with `tls`.",
    ),
    Row::value(
        "extensions.hubble_observer.capacity",
        Limits::Count(256, 1_048_575),
        |c| &mut observer(c).capacity,
        "Events that are kept for clients, of about 450 bytes each.",
    ),
    Row::value(
        "extensions.hubble_observer.capacity_bytes",
        Limits::Size(1 << 20, 1 << 30),
        |c| &mut observer(c).capacity_bytes,
        "Memory that these events take at most: those with large requests are kept for a shorter time.",
    ),
    Row::value(
        "extensions.hubble_observer.max_clients",
        Limits::Count(1, 1024),
        |c| &mut observer(c).max_clients,
        "Clients that are served at a time; further ones are told so.",
    ),
    Row::group(
        "extensions.hubble_observer.tls",
        "TLS of a TCP endpoint. None without these keys.",
    ),
    Row::value(
        "extensions.hubble_observer.tls.cert_file",
        Limits::Any,
        |c| &mut observer(c).cert_file,
        "Our certificate chain, PEM. Files are read again for each new connection.",
    ),
    Row::value(
        "extensions.hubble_observer.tls.key_file",
        Limits::Any,
        |c| &mut observer(c).key_file,
        "Its private key, PEM.",
    ),
    Row::value(
        "extensions.hubble_observer.tls.client_ca_file",
        Limits::Any,
        |c| &mut observer(c).client_ca_file,
        "Authorities whose clients are let in (mutual TLS), PEM; without it every client is.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_needs_a_host_and_a_port() {
        for right in ["127.0.0.1:13133", "[::]:0", "localhost:80", "0.0.0.0:65535"] {
            assert!(is_listen_endpoint(right), "{right}");
        }
        for wrong in [
            "",
            "localhost",
            ":80",
            "::1:80",
            "[::1]",
            "a:65536",
            "http://a:80",
            "a:+1",
            "[x]:1",
        ] {
            assert!(!is_listen_endpoint(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_observer_api_needs_a_path_or_a_port() {
        for right in ["unix:///run/a.sock", "unix:/run/a.sock", "127.0.0.1:4244"] {
            assert!(is_observer_endpoint(right), "{right}");
        }
        for wrong in ["unix://", "unix:///", "unix://a.sock", "/run/a.sock", "a"] {
            assert!(!is_observer_endpoint(wrong), "{wrong}");
        }
    }

    #[test]
    fn only_this_host_is_reached_by_a_socket_and_by_loopback() {
        for here in [
            "unix:///a",
            "127.0.0.2:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "localhost:1",
        ] {
            assert!(is_on_this_host(here), "{here}");
        }
        for beyond in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "localhost.example:1",
            "node:1",
        ] {
            assert!(!is_on_this_host(beyond), "{beyond}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_server() {
        assert_eq!(
            HubbleObserver::default().options(),
            ObserverOptions::default()
        );
    }
}
