//! TLS settings to connections of the gRPC channel. Files are read again for each new connection, so that what replaces them is
//! used without a restart.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;

use crate::export::options::TlsOptions;
use crate::from_files::{FilesError, FromFiles};

/// Of ALPN.
const HTTP2: &[u8] = b"h2";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("tls.{key} {path}: {source}")]
    File {
        /// The option.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The same thing in two ways.
    #[error("tls.{} and tls.{} are both set, allowed is one of the two", .0[0], .0[1])]
    Twice([&'static str; 2]),
    /// No PEM where there should be.
    #[error("tls.{key} {path}: there is no PEM block of kind {expected} in it")]
    Pem {
        /// The option.
        key: &'static str,
        /// The file; empty when the text stands in the configuration.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// Half of what mutual TLS needs.
    #[error("tls.{given} is set without tls.{missing}; mutual TLS needs both")]
    Half {
        /// The option that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// Certificate and key do not belong together, or one of them cannot be used.
    #[error("the certificate of tls.{cert} and the key of tls.{key}: {problem}")]
    Identity {
        /// The certificate's option.
        cert: &'static str,
        /// The key's option.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Contradictory options.
    #[error(
        "tls.ca_file and tls.insecure_skip_verify exclude each other: one says whom to trust, the other to trust anyone"
    )]
    Contradiction,
    /// The TLS library refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// TLS of a receiver: connects by TCP and shakes hands with the files as they are at that moment. Clones share the files.
#[derive(Clone, Debug)]
pub(crate) struct TlsConnector {
    tcp: HttpConnector,
    config: Arc<FromFiles<ClientConfig, TlsError>>,
    /// Instead of the endpoint's host.
    server_name: Option<ServerName<'static>>,
}

impl TlsConnector {
    /// Reads the files and checks that they belong together.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, or the options contradict each other.
    pub(crate) fn new(options: &TlsOptions, tcp_keepalive: Duration) -> Result<Self, TlsError> {
        let sources = [CERT, KEY, CA]
            .into_iter()
            .filter_map(|part| Source::of(part, options).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let has = |part: Part| sources.iter().any(|source| source.part == part);
        if has(CERT) != has(KEY) {
            let (given, missing) = if has(CERT) { (CERT, KEY) } else { (KEY, CERT) };
            return Err(TlsError::Half {
                given: given.file,
                missing: missing.file,
            });
        }
        if has(CA) && options.insecure_skip_verify {
            return Err(TlsError::Contradiction);
        }
        let server_name = options
            .server_name_override
            .clone()
            .map(ServerName::try_from)
            .transpose()
            .map_err(|error| TlsError::Setup(error.to_string()))?;
        let files: Vec<_> = sources.iter().filter_map(Source::path).collect();
        let (skip_verify, with_system) = (
            options.insecure_skip_verify,
            options.include_system_ca_certs_pool,
        );
        let make = {
            let sources = sources.clone();
            move |contents: &[Vec<u8>]| {
                let pem = Source::all(&sources, contents)?;
                client_config(&pem, skip_verify, with_system)
            }
        };
        let config =
            FromFiles::new("exporters.otlp_grpc.tls", files, make).map_err(
                |error| match error {
                    FilesError::Read { file, source } => TlsError::File {
                        key: key_of(&sources, &file),
                        path: file,
                        source,
                    },
                    FilesError::Make(error) => error,
                },
            )?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(tcp_keepalive));
        Ok(Self {
            tcp,
            config: Arc::new(config),
            server_name,
        })
    }
}

impl Service<Uri> for TlsConnector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default();
        // Brackets belong to addresses in URIs only.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.to_owned()),
        };
        let config = self.config.current();
        let connecting = self.tcp.call(uri);
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            let connector = tokio_rustls::TlsConnector::from(config);
            let stream = connector.connect(name?, stream).await?;
            if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
                return Err("the receiver does not offer HTTP/2 over TLS".into());
            }
            Ok(TokioIo::new(stream))
        })
    }
}

/// What `tls.*_file` and `tls.*_pem` give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    file: &'static str,
    text: &'static str,
    /// Kind of PEM block.
    kind: &'static str,
}

const CERT: Part = Part {
    file: "cert_file",
    text: "cert_pem",
    kind: "CERTIFICATE",
};
const KEY: Part = Part {
    file: "key_file",
    text: "key_pem",
    kind: "PRIVATE KEY",
};
const CA: Part = Part {
    file: "ca_file",
    text: "ca_pem",
    kind: "CERTIFICATE",
};

/// Where a part stands.
#[derive(Clone)]
struct Source {
    part: Part,
    place: Place,
}

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Text(String),
}

impl Source {
    fn of(part: Part, options: &TlsOptions) -> Result<Option<Self>, TlsError> {
        let (file, text) = match part {
            CERT => (&options.cert_file, &options.cert_pem),
            KEY => (&options.key_file, &options.key_pem),
            _ => (&options.ca_file, &options.ca_pem),
        };
        let place = match (file, text) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(TlsError::Twice([part.file, part.text])),
            (None, Some(text)) => Place::Text(text.clone()),
            (Some(path), None) => Place::File(path.clone()),
        };
        Ok(Some(Self { part, place }))
    }

    fn path(&self) -> Option<PathBuf> {
        match &self.place {
            Place::File(path) => Some(path.clone()),
            Place::Text(_) => None,
        }
    }

    /// The PEM of all parts; `contents` are those of the files among them, in their order.
    fn all(sources: &[Self], contents: &[Vec<u8>]) -> Result<Pem, TlsError> {
        let mut contents = contents.iter();
        let mut pem = Pem::default();
        for Self { part, place } in sources {
            let (key, path, bytes) = match place {
                Place::Text(text) => (part.text, PathBuf::new(), text.as_bytes()),
                Place::File(path) => {
                    let bytes = contents.next().map_or(&[][..], Vec::as_slice);
                    (part.file, path.clone(), bytes)
                }
            };
            // "PRIVATE KEY" also ends the names of the older kinds: "RSA PRIVATE KEY".
            if !String::from_utf8_lossy(bytes).contains(&format!("{}-----", part.kind)) {
                return Err(TlsError::Pem {
                    key,
                    path,
                    expected: part.kind,
                });
            }
            *match *part {
                CERT => &mut pem.cert,
                KEY => &mut pem.key,
                _ => &mut pem.ca,
            } = Some((key, bytes.to_vec()));
        }
        Ok(pem)
    }
}

fn key_of(sources: &[Source], file: &Path) -> &'static str {
    let of = sources
        .iter()
        .find(|source| source.path().as_deref() == Some(file));
    of.map_or("", |source| source.part.file)
}

/// The parts, each with the option that gave it.
#[derive(Default)]
struct Pem {
    cert: Option<(&'static str, Vec<u8>)>,
    key: Option<(&'static str, Vec<u8>)>,
    ca: Option<(&'static str, Vec<u8>)>,
}

fn client_config(
    pem: &Pem,
    skip_verify: bool,
    with_system: bool,
) -> Result<ClientConfig, TlsError> {
    let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?;
    let builder = if skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAnyone(provider)))
    } else {
        let mut roots = RootCertStore::empty();
        if pem.ca.is_none() || with_system {
            // Some of a system's certificates may be unreadable; the others serve.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::Setup(
                    "the system has no certificates of authorities; set tls.ca_file".to_owned(),
                ));
            }
        }
        let ca = pem.ca.as_ref().map_or(&[][..], |(_, pem)| pem);
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| setup(&error))?;
        }
        builder.with_root_certificates(roots)
    };
    let mut config = match (&pem.cert, &pem.key) {
        (Some((cert_option, cert)), Some((key_option, key))) => {
            check_identity(cert, key).map_err(|problem| TlsError::Identity {
                cert: cert_option,
                key: key_option,
                problem,
            })?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| setup(&error))?;
            builder
                .with_client_auth_cert(certificates(cert)?, key)
                .map_err(|error| setup(&error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols.push(HTTP2.to_vec());
    Ok(config)
}

/// Whether a certificate chain and a key, both PEM, are an identity: without this check the first handshake would be the place
/// where that they are not is found out.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn check_identity(cert: &[u8], key: &[u8]) -> Result<(), String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("the key cannot be read: {error}"))?;
    match CertifiedKey::from_der(chain, key, &crypto::ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("they do not belong together".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Setup(error.to_string()))
}

/// Accepts any certificate, but still checks that its owner made the handshake.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(options: &TlsOptions) -> String {
        TlsConnector::new(options, Duration::ZERO)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        let missing = TlsOptions {
            ca_file: Some(dir.path().join("missing.pem")),
            ..TlsOptions::default()
        };
        assert!(error(&missing).contains("tls.ca_file") && error(&missing).contains("missing.pem"));
        let no_pem = TlsOptions {
            ca_file: Some(empty),
            ..TlsOptions::default()
        };
        assert!(error(&no_pem).contains("no PEM block of kind CERTIFICATE"));
        let half = TlsOptions {
            cert_pem: Some("-----BEGIN CERTIFICATE-----".into()),
            ..TlsOptions::default()
        };
        assert!(error(&half).contains("tls.cert_file is set without tls.key_file"));
        let both = TlsOptions {
            ca_pem: Some("-----BEGIN CERTIFICATE-----".into()),
            insecure_skip_verify: true,
            ..TlsOptions::default()
        };
        assert!(error(&both).contains("exclude each other"));
        let unreadable = TlsOptions {
            cert_pem: Some("-----BEGIN CERTIFICATE-----".into()),
            key_pem: Some("-----BEGIN PRIVATE KEY-----".into()),
            ..TlsOptions::default()
        };
        let error = error(&unreadable);
        assert!(
            error.starts_with("the certificate of tls.cert_pem and the key of tls.key_pem: "),
            "{error}"
        );
    }
}
