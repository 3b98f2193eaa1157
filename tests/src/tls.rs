//! TLS: a certificate for a server, and clients that trust it.

use std::{fs, net::TcpStream, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring::default_provider,
};
use tempfile::TempDir;

/// The name in the certificate.
const SERVER: &str = "localhost";

/// A certificate with its key, in files that are gone when dropped.
#[derive(Debug)]
pub struct Certificate {
    folder: TempDir,
    trust: Arc<ClientConfig>,
}

impl Certificate {
    pub fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([SERVER.to_owned()])?;
        let folder = TempDir::new().context("cannot make a folder for a certificate")?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let trust = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let certificate = Self {
            folder,
            trust: Arc::new(trust),
        };
        let texts = [made.cert.pem(), made.signing_key.serialize_pem()];
        for (file, text) in certificate.files().iter().zip(texts) {
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(certificate)
    }

    /// The files of the certificate and of its key.
    #[must_use]
    pub fn files(&self) -> [PathBuf; 2] {
        ["server.crt", "server.key"].map(|name| self.folder.path().join(name))
    }

    /// A client's TLS over a connection to the server.
    pub fn over(&self, stream: TcpStream) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let connection = ClientConnection::new(Arc::clone(&self.trust), SERVER.try_into()?)?;
        Ok(StreamOwned::new(connection, stream))
    }
}
