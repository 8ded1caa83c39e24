//! `receivers.cilium`, as plain data.

use std::path::PathBuf;
use std::time::Duration;

use netflume_core::aggregate::hubble::HubbleOptions;
use netflume_core::aggregate::selection::SelectionOptions;
use netflume_core::enrich::cilium::redaction::Redaction;

use crate::directories::cilium_api::Asking;

/// `receivers.cilium`: events of the Cilium agent.
#[derive(Clone, Debug, PartialEq)]
pub struct CiliumOptions {
    /// The agent's monitor socket.
    pub socket: PathBuf,
    /// The agent's API socket; empty: it is not asked.
    pub api_socket: PathBuf,
    /// How long the first events wait for the agent's first lists; zero: they do not.
    pub api_wait: Duration,
    /// How long a layer-7 request waits for its response.
    pub request_timeout: Duration,
    /// Hubble's metrics.
    pub metrics: HubbleOptions,
    /// Log records and lines.
    pub logs: CiliumLogs,
    /// What nobody should read later.
    pub redact: Redact,
}

impl Default for CiliumOptions {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/var/run/cilium/monitor1_2.sock"),
            api_socket: PathBuf::from("/var/run/cilium/cilium.sock"),
            api_wait: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            metrics: HubbleOptions::default(),
            logs: CiliumLogs::default(),
            redact: Redact::default(),
        }
    }
}

impl CiliumOptions {
    /// How the agent is asked. With `raw`, for a recording.
    pub(crate) fn asking(&self, raw: bool) -> Asking {
        Asking {
            socket: self.api_socket.clone(),
            wait: self.api_wait,
            raw,
        }
    }
}

/// `receivers.cilium.logs`.
#[derive(Clone, Debug, PartialEq)]
pub struct CiliumLogs {
    /// Whether there are any.
    pub enabled: bool,
    /// Which.
    pub selection: SelectionOptions,
}

impl Default for CiliumLogs {
    fn default() -> Self {
        Self {
            enabled: true,
            selection: SelectionOptions::default(),
        }
    }
}

/// `receivers.cilium.redact`: Hubble's `hubble-redact-*` options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redact {
    /// Whether anything is taken out.
    pub enabled: bool,
    /// Query and fragment of URLs.
    pub http_urlquery: bool,
    /// Passwords in URLs.
    pub http_userinfo: bool,
    /// Headers whose values stay.
    pub http_headers_allow: Vec<String>,
    /// Headers whose values go; the others stay.
    pub http_headers_deny: Vec<String>,
    /// The operation of Kafka requests.
    pub kafka_apikey: bool,
}

impl Default for Redact {
    fn default() -> Self {
        let options = Redaction::default();
        Self {
            enabled: true,
            http_urlquery: options.url_query,
            http_userinfo: options.user_info,
            http_headers_allow: texts(&options.headers_allow),
            http_headers_deny: texts(&options.headers_deny),
            kafka_apikey: options.kafka_api_key,
        }
    }
}

fn texts(list: &[Box<str>]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

impl Redact {
    /// What is taken out.
    #[must_use]
    pub fn options(&self) -> Redaction {
        let names = |list: &[String]| {
            let lower = list.iter().map(|name| name.to_ascii_lowercase().into());
            lower.collect()
        };
        let allow = match self.http_headers_deny.as_slice() {
            [] => names(&self.http_headers_allow),
            _ => Vec::new(),
        };
        Redaction {
            user_info: self.enabled && self.http_userinfo,
            url_query: self.enabled && self.http_urlquery,
            headers: self.enabled,
            headers_allow: allow,
            headers_deny: names(&self.http_headers_deny),
            kafka_api_key: self.enabled && self.kafka_apikey,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_rooms() {
        assert_eq!(Redact::default().options(), Redaction::default());
        let off = Redact {
            enabled: false,
            ..Redact::default()
        };
        let options = off.options();
        assert!(!options.user_info && !options.url_query && !options.headers);
    }

    #[test]
    fn denied_headers_stand_instead_of_the_allowed_ones() {
        let redact = Redact {
            http_headers_deny: vec!["Cookie".into()],
            ..Redact::default()
        };
        let options = redact.options();
        assert_eq!(
            (options.headers_allow, options.headers_deny),
            (Vec::new(), vec![Box::from("cookie")])
        );
    }
}
