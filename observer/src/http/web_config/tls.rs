//! `tls_server_config` as rustls holds it. Names are those of Go's `crypto/tls`, as in
//! exporter-toolkit.

use super::file::Tls;
use crate::pem;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    Error, InconsistentKeys, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
};

/// Oldest first.
const VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLS12", &TLS12), ("TLS13", &TLS13)];
/// Go's name, and that of RFC 8446 or of SEC 2, which rustls has.
const CURVES: [(&str, &dyn SupportedKxGroup); 3] = [
    ("X25519", ring::kx_group::X25519),
    ("CurveP256", ring::kx_group::SECP256R1),
    ("CurveP384", ring::kx_group::SECP384R1),
];

/// What every connection of now on is made with.
///
/// # Errors
/// With the key or the file that is wrong, and the cure.
pub fn config(tls: &Tls, folder: &Path) -> Result<ServerConfig> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: suites(&tls.cipher_suites)?,
        kx_groups: curves(&tls.curve_preferences)?,
        ..ring::default_provider()
    });
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(tls)?)
        .context("has no cipher_suites for these versions of TLS: leave them out")?;
    let builder = match client_verifier(tls, folder, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let cert_file = folder.join(&tls.cert_file);
    let key_file = folder.join(&tls.key_file);
    let certificates = pem::certificates("cert_file", &cert_file)?;
    let key = pem::private_key("key_file", &key_file)?;
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => anyhow::anyhow!(
                "has a key_file, {}, that is not that of the certificate in cert_file, {}: \
                 name two that were made together, the server's own certificate first",
                key_file.display(),
                cert_file.display()
            ),
            error => anyhow::anyhow!(
                "has a certificate in cert_file, {}, or a key in key_file, {}, that cannot be \
                 used: {error}",
                cert_file.display(),
                key_file.display()
            ),
        })?;
    config.ignore_client_order = tls.prefer_server_cipher_suites.unwrap_or(true);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn versions(tls: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>> {
    let place = |key, asked: &Option<String>, default| {
        let Some(asked) = asked else {
            return Ok(default);
        };
        let place = VERSIONS.iter().position(|(name, _)| name == asked);
        place.with_context(|| {
            format!(
                "has {key}: {asked} in tls_server_config, but only TLS12 and TLS13 are supported"
            )
        })
    };
    let oldest = place("min_version", &tls.min_version, 0)?;
    let newest = place("max_version", &tls.max_version, VERSIONS.len() - 1)?;
    ensure!(
        oldest <= newest,
        "has a min_version in tls_server_config that is above its max_version: swap them"
    );
    let among = VERSIONS.iter().take(newest + 1).skip(oldest);
    Ok(among.map(|&(_, version)| version).collect())
}

/// As in Go, those of TLS 1.3 are always there.
fn suites(asked: &[String]) -> Result<Vec<SupportedCipherSuite>> {
    let all = ring::default_provider().cipher_suites;
    if asked.is_empty() {
        return Ok(all);
    }
    let name = |suite: &SupportedCipherSuite| {
        let name = format!("{:?}", suite.suite());
        name.replace("TLS13_", "TLS_")
    };
    for asked in asked {
        if !all.iter().any(|suite| name(suite) == *asked) {
            let names: Vec<_> = all.iter().map(name).collect();
            let names = names.join(", ");
            bail!("has {asked} in cipher_suites, which is not supported; these are: {names}");
        }
    }
    let is_asked =
        |suite: &SupportedCipherSuite| suite.tls13().is_some() || asked.contains(&name(suite));
    Ok(all.into_iter().filter(is_asked).collect())
}

fn curves(asked: &[String]) -> Result<Vec<&'static dyn SupportedKxGroup>> {
    if asked.is_empty() {
        return Ok(ring::default_provider().kx_groups);
    }
    let curve = |asked: &String| {
        let known = CURVES.iter().find(|(name, _)| name == asked);
        known.map(|&(_, group)| group).with_context(|| {
            let names = CURVES.map(|(name, _)| name).join(", ");
            format!("has {asked} in curve_preferences, which is not supported; these are: {names}")
        })
    };
    asked.iter().map(curve).collect()
}

fn client_verifier(
    tls: &Tls,
    folder: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
    let is_optional = match tls.client_auth_type.as_str() {
        "" | "NoClientCert" => {
            ensure!(
                tls.client_ca_file.is_none(),
                "has a client_ca_file, but no client_auth_type that uses it: add \
                 `client_auth_type: RequireAndVerifyClientCert`"
            );
            return Ok(None);
        }
        "RequireAndVerifyClientCert" => false,
        "VerifyClientCertIfGiven" => true,
        unchecked @ ("RequestClientCert" | "RequireAnyClientCert" | "RequireClientCert") => bail!(
            "has client_auth_type: {unchecked}, which lets in any certificate and is not \
             supported: use RequireAndVerifyClientCert or VerifyClientCertIfGiven"
        ),
        unknown => bail!(
            "has client_auth_type: {unknown}, which is none: use NoClientCert, \
             VerifyClientCertIfGiven or RequireAndVerifyClientCert"
        ),
    };
    let Some(ca_file) = &tls.client_ca_file else {
        let asked = &tls.client_auth_type;
        bail!("has client_auth_type: {asked}, but no client_ca_file to verify with: name one");
    };
    let ca_file = folder.join(ca_file);
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates("client_ca_file", &ca_file)? {
        let name = ca_file.display();
        roots.add(certificate).with_context(|| {
            format!("has a certificate in client_ca_file, {name}, that cannot be used")
        })?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = if is_optional {
        verifier.allow_unauthenticated()
    } else {
        verifier
    };
    Ok(Some(verifier.build().context("its client_ca_file")?))
}
