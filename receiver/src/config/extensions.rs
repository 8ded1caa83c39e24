//! The `extensions` keys: what others may ask of the running program.

use crate::config::schema::Row;
use crate::config::value::Limits;

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
        "What others may ask of the running program. An extension runs when its key is there.",
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
}
