//! TLS settings to what the gRPC channel is built with. Files are read once, at start.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, InconsistentKeys, SignatureScheme};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::export::options::TlsOptions;

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

/// Adds TLS to an endpoint.
///
/// # Errors
/// When a file cannot be read or holds something else, or the options contradict each other.
pub(crate) fn secure(endpoint: Endpoint, options: &TlsOptions) -> Result<Endpoint, TlsError> {
    let mut tls = ClientTlsConfig::new();
    if let Some(name) = &options.server_name_override {
        tls = tls.domain_name(name);
    }
    let cert = pem(
        ["cert_file", "cert_pem"],
        &options.cert_file,
        &options.cert_pem,
        "CERTIFICATE",
    )?;
    let key = pem(
        ["key_file", "key_pem"],
        &options.key_file,
        &options.key_pem,
        "PRIVATE KEY",
    )?;
    match (cert, key) {
        (Some(cert), Some(key)) => {
            check_identity(&cert, &key).map_err(|problem| TlsError::Identity {
                cert: if options.cert_file.is_some() {
                    "cert_file"
                } else {
                    "cert_pem"
                },
                key: if options.key_file.is_some() {
                    "key_file"
                } else {
                    "key_pem"
                },
                problem,
            })?;
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        (Some(_), None) => {
            return Err(TlsError::Half {
                given: "cert_file",
                missing: "key_file",
            });
        }
        (None, Some(_)) => {
            return Err(TlsError::Half {
                given: "key_file",
                missing: "cert_file",
            });
        }
        (None, None) => {}
    }
    let authorities = pem(
        ["ca_file", "ca_pem"],
        &options.ca_file,
        &options.ca_pem,
        "CERTIFICATE",
    )?;
    let built = match (authorities, options.insecure_skip_verify) {
        (Some(_), true) => return Err(TlsError::Contradiction),
        (None, true) => endpoint.tls_config_with_verifier(tls, Arc::new(TrustAnyone::new())),
        (authorities, false) => {
            if authorities.is_none() || options.include_system_ca_certs_pool {
                tls = tls.with_native_roots();
            }
            if let Some(authorities) = authorities {
                tls = tls.ca_certificate(Certificate::from_pem(authorities));
            }
            endpoint.tls_config(tls)
        }
    };
    built.map_err(|error| TlsError::Setup(crate::export::client::causes(&error)))
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

/// PEM from a file or as it stands.
fn pem(
    keys: [&'static str; 2],
    file: &Option<PathBuf>,
    text: &Option<String>,
    expected: &'static str,
) -> Result<Option<Vec<u8>>, TlsError> {
    let (key, source, pem) = match (file, text) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(TlsError::Twice(keys)),
        (None, Some(text)) => (keys[1], "".into(), text.clone().into_bytes()),
        (Some(path), None) => match std::fs::read(path) {
            Ok(pem) => (keys[0], path.clone(), pem),
            Err(source) => {
                return Err(TlsError::File {
                    key: keys[0],
                    path: path.clone(),
                    source,
                });
            }
        },
    };
    // "PRIVATE KEY" also ends the names of the older kinds: "RSA PRIVATE KEY".
    if !String::from_utf8_lossy(&pem).contains(&format!("{expected}-----")) {
        return Err(TlsError::Pem {
            key,
            path: source,
            expected,
        });
    }
    Ok(Some(pem))
}

/// Accepts any certificate, but still checks that its owner made the handshake.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl TrustAnyone {
    fn new() -> Self {
        let default = || Arc::new(crypto::ring::default_provider());
        Self(
            CryptoProvider::get_default()
                .cloned()
                .unwrap_or_else(default),
        )
    }
}

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
        secure(Endpoint::from_static("https://localhost:4317"), options)
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
