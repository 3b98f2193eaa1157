//! PEM files that a configuration names by a key.

use anyhow::{Context as _, Result};
use std::path::Path;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// All certificates of a file; there is at least one.
///
/// # Errors
/// With the key and the file, and what is wrong with it.
pub fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = bytes(key, path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| no_pem(&error, key, path, "certificate"))?;
    if certificates.is_empty() {
        return Err(no_pem(&pem::Error::NoItemsFound, key, path, "certificate"));
    }
    Ok(certificates)
}

/// The first private key of a file.
///
/// # Errors
/// With the key and the file, and what is wrong with it.
pub fn private_key(key: &str, path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&bytes(key, path)?)
        .map_err(|error| no_pem(&error, key, path, "private key"))
}

fn bytes(key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| {
        let name = path.display();
        format!("has the {key} {name}, which cannot be read; it is relative to the configuration")
    })
}

/// An error that says what is wrong with a file, but shows nothing of it.
fn no_pem(error: &pem::Error, key: &str, path: &Path, what: &str) -> anyhow::Error {
    let name = path.display();
    let why = match error {
        pem::Error::NoItemsFound => "there is none in it",
        pem::Error::MissingSectionEnd { .. } => "it is cut off",
        pem::Error::Base64Decode(_) => "it is no base64",
        _ => "it is no PEM",
    };
    anyhow::anyhow!("has the {key} {name}, which must be a PEM file with a {what}: {why}")
}
