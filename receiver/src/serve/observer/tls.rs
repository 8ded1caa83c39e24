//! TLS of the Observer API. Certificates are read again for each new connection, so that what replaces them is used without a
//! restart.

use std::sync::Arc;

use rustls::crypto;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::{ObserverError, ObserverTls};
use crate::export::tls::check_identity;
use crate::from_files::{FilesError, FromFiles};

/// What is shown to clients, and who of them is let in, as the files have it.
pub(super) type Certificates = FromFiles<ServerConfig, TlsProblem>;

/// Why files are no settings of a TLS server.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsProblem {
    /// A file is no PEM, or not of this kind.
    #[error("tls.{key}: {reason}")]
    Pem {
        key: &'static str,
        reason: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not belong together, or one of them cannot be used.
    #[error("tls.cert_file and tls.key_file: {0}")]
    Identity(String),
    /// Anything else that the TLS library refuses.
    #[error("tls.{key}: {reason}")]
    Refused { key: &'static str, reason: String },
}

/// Reads the files for the first time.
pub(super) fn certificates(options: &ObserverTls) -> Result<Certificates, ObserverError> {
    let mut files = vec![options.cert_file.clone(), options.key_file.clone()];
    files.extend(options.client_ca_file.clone());
    let make = |contents: &[Vec<u8>]| {
        let [cert, key, client_ca @ ..] = contents else {
            return server_config(&[], &[], None);
        };
        server_config(cert, key, client_ca.first().map(Vec::as_slice))
    };
    FromFiles::new("extensions.hubble_observer.tls", files, make).map_err(|error| match error {
        FilesError::Read { file, source } => ObserverError::TlsFile { file, source },
        FilesError::Make(TlsProblem::Identity(problem)) => ObserverError::Identity {
            cert: options.cert_file.clone(),
            key: options.key_file.clone(),
            problem,
        },
        FilesError::Make(problem) => ObserverError::Tls(problem.to_string()),
    })
}

fn server_config(
    cert: &[u8],
    key: &[u8],
    client_ca: Option<&[u8]>,
) -> Result<ServerConfig, TlsProblem> {
    check_identity(cert, key).map_err(TlsProblem::Identity)?;
    let chain = chain("cert_file", cert)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|reason| TlsProblem::Pem {
        key: "key_file",
        reason,
    })?;
    let refused = |key: &'static str, reason: &dyn std::fmt::Display| TlsProblem::Refused {
        key,
        reason: reason.to_string(),
    };
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| refused("cert_file", &error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::chain("client_ca_file", pem)? {
                roots
                    .add(certificate)
                    .map_err(|error| refused("client_ca_file", &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| refused("client_ca_file", &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| refused("key_file", &error))?;
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(config)
}

fn chain(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|reason| TlsProblem::Pem { key, reason })?;
    if chain.is_empty() {
        let reason = rustls::pki_types::pem::Error::NoItemsFound;
        return Err(TlsProblem::Pem { key, reason });
    }
    Ok(chain)
}
