//! The text of an endpoint to what is connected to.

use std::path::PathBuf;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP.
    Tcp {
        /// Host and port, as they stand in a URI: `[::1]:4317`.
        authority: String,
        /// Encrypted.
        tls: bool,
    },
    /// A unix socket, plain text.
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp {
                authority,
                tls: true,
            } => write!(f, "https://{authority}"),
            Self::Tcp {
                authority,
                tls: false,
            } => write!(f, "http://{authority}"),
            Self::Unix(path) if path.is_absolute() => write!(f, "unix://{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why an endpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing there.
    #[error("is empty; allowed are host:port, http://host:port, https://host:port, unix:///path")]
    Empty,
    /// Another scheme.
    #[error(
        "found scheme `{0}`; allowed are host:port, http://host:port, https://host:port, unix:///path"
    )]
    Scheme(String),
    /// No port.
    #[error("found `{0}` without a port; an OTLP/gRPC receiver usually has 4317: `{0}:4317`")]
    Port(String),
    /// A path, which gRPC has no place for.
    #[error("found path `{0}`; OTLP over gRPC has none: leave it out")]
    Path(String),
    /// Not the path of a socket.
    #[error(
        "found `unix://{0}`; after unix:// stands an absolute path, as in unix:///run/otlp.sock"
    )]
    Unix(String),
    /// A user name or a password, which are not repeated here.
    #[error("has a user name or password in it; OTLP over gRPC takes credentials as headers")]
    Credentials,
    /// Not a host and port.
    #[error("found `{0}`, which is not host:port")]
    Authority(String),
}

impl Endpoint {
    /// Parses an endpoint as the Collector and the `OTEL_EXPORTER_OTLP_ENDPOINT` variables have it: a scheme decides about
    /// TLS; without one there is TLS unless `insecure`.
    ///
    /// # Errors
    /// When the text is none of the forms, names no port (only `https://` has a default, 443), or has a path.
    pub fn parse(text: &str, insecure: bool) -> Result<Self, EndpointError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        if let Some(path) = text.strip_prefix("unix://") {
            // As in gRPC's own naming, only the form without slashes takes a relative path.
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(EndpointError::Unix(path.to_owned()))
            };
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(EndpointError::Empty)
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return tcp(text, !insecure, None);
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" => tcp(rest, false, None),
            "https" => tcp(rest, true, Some(443)),
            // gRPC's own way to write a name: dns://[resolver]/host:port.
            "dns" | "passthrough" => tcp(
                rest.split_once('/').map_or(rest, |(_, target)| target),
                !insecure,
                None,
            ),
            _ => Err(EndpointError::Scheme(scheme.to_owned())),
        }
    }
}

fn tcp(text: &str, tls: bool, default_port: Option<u16>) -> Result<Endpoint, EndpointError> {
    let (authority, path) = text.split_once('/').unwrap_or((text, ""));
    if authority.contains('@') {
        return Err(EndpointError::Credentials);
    }
    let wrong = || EndpointError::Authority(authority.to_owned());
    let parsed: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
    if parsed.host().is_empty() {
        return Err(wrong());
    }
    let authority = match (parsed.port_u16(), default_port) {
        (Some(0), _) => return Err(wrong()),
        (Some(_), _) => authority.to_owned(),
        (None, _) if parsed.as_str().len() > parsed.host().len() => return Err(wrong()),
        (None, Some(port)) => format!("{authority}:{port}"),
        (None, None) => return Err(EndpointError::Port(authority.to_owned())),
    };
    if !path.is_empty() {
        return Err(EndpointError::Path(format!("/{path}")));
    }
    Ok(Endpoint::Tcp { authority, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, insecure: bool) -> String {
        Endpoint::parse(text, insecure).unwrap().to_string()
    }

    #[test]
    fn a_scheme_decides_about_tls_and_without_one_it_is_on_unless_insecure() {
        for (text, insecure, expected) in [
            ("localhost:4317", false, "https://localhost:4317"),
            ("localhost:4317", true, "http://localhost:4317"),
            ("http://localhost:4317", false, "http://localhost:4317"),
            ("http://localhost:4317/", false, "http://localhost:4317"),
            ("https://localhost:4317", true, "https://localhost:4317"),
            ("HTTPS://otlp.example", false, "https://otlp.example:443"),
            ("[::1]:4317", true, "http://[::1]:4317"),
            ("http://[::1]:4317", false, "http://[::1]:4317"),
            (
                "dns:///collector.monitoring:4317",
                true,
                "http://collector.monitoring:4317",
            ),
            (
                "dns://10.0.0.2/collector:4317",
                false,
                "https://collector:4317",
            ),
            ("unix:///run/otel.sock", false, "unix:///run/otel.sock"),
            ("unix:run/otel.sock", false, "unix:run/otel.sock"),
            ("  10.0.0.1:4317 ", true, "http://10.0.0.1:4317"),
        ] {
            assert_eq!(parsed(text, insecure), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (text, expected) in [
            ("", "is empty"),
            ("unix:", "is empty"),
            ("unix://run/otel.sock", "unix:///run/otlp.sock"),
            ("ftp://localhost:4317", "scheme `ftp`"),
            ("localhost", "`localhost:4317`"),
            ("http://localhost", "`localhost:4317`"),
            ("http://localhost:4318/v1/logs", "path `/v1/logs`"),
            ("localhost:port", "not host:port"),
            ("localhost:99999", "not host:port"),
            ("localhost:0", "not host:port"),
            (":4317", "not host:port"),
            ("http://user:hush@localhost:4317", "has a user name"),
            ("http://user:hush@localhost:4317/path", "has a user name"),
            ("::1:4317", "not host:port"),
            ("two words:4317", "not host:port"),
        ] {
            let error = Endpoint::parse(text, true).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hush"), "{text}: {error}");
        }
    }
}
