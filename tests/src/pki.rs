//! Certificates for tests: an authority, a server on localhost, a client.

use std::path::PathBuf;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// An authority and what it signed, as PEM files in a folder that goes with it.
#[derive(Debug)]
pub struct Pki {
    folder: TempDir,
    server: Identity,
    authority_pem: String,
}

impl Pki {
    /// Makes new keys.
    ///
    /// # Errors
    /// A key cannot be made or a file not written.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let authority_pem = params.self_signed(&key)?.pem();
        let authority = Issuer::new(params, key);

        let signed = |names: &[&str], purpose| -> Result<(String, String)> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names)?;
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate()?;
            Ok((
                params.signed_by(&key, &authority)?.pem(),
                key.serialize_pem(),
            ))
        };
        let (cert, key) = signed(
            &["localhost", "collector.test"],
            ExtendedKeyUsagePurpose::ServerAuth,
        )?;
        std::fs::write(folder.path().join("server.pem"), &cert)?;
        std::fs::write(folder.path().join("server.key"), &key)?;
        let server = Identity::from_pem(cert, key);
        let (cert, key) = signed(&["netflume"], ExtendedKeyUsagePurpose::ClientAuth)?;
        std::fs::write(folder.path().join("ca.pem"), &authority_pem)?;
        std::fs::write(folder.path().join("client.pem"), cert)?;
        std::fs::write(folder.path().join("client.key"), key)?;
        Ok(Self {
            folder,
            server,
            authority_pem,
        })
    }

    /// A server that shows its certificate.
    #[must_use]
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new().identity(self.server.clone())
    }

    /// A server that also wants the client's.
    #[must_use]
    pub fn mutual_server(&self) -> ServerTlsConfig {
        self.server()
            .client_ca_root(Certificate::from_pem(&self.authority_pem))
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The server's certificate.
    #[must_use]
    pub fn server_cert_file(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    /// The server's key.
    #[must_use]
    pub fn server_key_file(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    /// The client's certificate.
    #[must_use]
    pub fn client_cert_file(&self) -> PathBuf {
        self.folder.path().join("client.pem")
    }

    /// The client's key.
    #[must_use]
    pub fn client_key_file(&self) -> PathBuf {
        self.folder.path().join("client.key")
    }
}
