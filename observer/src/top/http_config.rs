//! How a daemon is asked that has a web configuration: a file of the kind that `promtool` takes by
//! `--http.config.file`.

use crate::{pem, yaml};
use anyhow::{Context as _, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// What requests are made with.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub tls: TlsConfig,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    basic_auth: Option<BasicAuth>,
    tls_config: Option<Tls>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BasicAuth {
    username: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    insecure_skip_verify: bool,
}

impl Credentials {
    /// Reads the file, and what it names; without one, nobody is asked for a password, and the
    /// authorities are those that this host trusts.
    ///
    /// # Errors
    /// With the line, the key or the file that is wrong, and the cure; never with a password.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Self::new(&File::default(), Path::new(""));
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the HTTP configuration {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        yaml::parse(&text, "docs/TOP.md")
            .and_then(|file| Self::new(&file, folder))
            .map_err(|error| anyhow!("{} {error:#}", path.display()))
    }

    fn new(file: &File, folder: &Path) -> Result<Self> {
        let basic = file.basic_auth.as_ref();
        Ok(Self {
            tls: match &file.tls_config {
                Some(tls) => tls.config(folder)?,
                None => Tls::default().config(folder)?,
            },
            authorization: basic.map(|it| it.authorization(folder)).transpose()?,
        })
    }
}

impl BasicAuth {
    fn authorization(&self, folder: &Path) -> Result<String> {
        ensure!(
            !self.username.is_empty() && !self.username.contains(':'),
            "has a username in basic_auth that is empty or has a colon"
        );
        let password = match (&self.password, &self.password_file) {
            (Some(password), None) => password.clone(),
            (None, Some(file)) => {
                let file = folder.join(file);
                let text = std::fs::read_to_string(&file).with_context(|| {
                    format!(
                        "has the password_file {}, which cannot be read",
                        file.display()
                    )
                })?;
                text.trim().to_owned()
            }
            _ => anyhow::bail!("needs either password or password_file in basic_auth"),
        };
        let pair = format!("{}:{password}", self.username);
        Ok(format!("Basic {}", STANDARD.encode(pair)))
    }
}

impl Tls {
    fn config(&self, folder: &Path) -> Result<TlsConfig> {
        let authorities = match &self.ca_file {
            Some(file) => pem::certificates("ca_file", &folder.join(file))?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let authorities: Vec<_> = authorities.iter().map(|it| of_der(it)).collect();
        let client = match (&self.cert_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                let chain = pem::certificates("cert_file", &folder.join(certificate))?;
                let chain: Vec<_> = chain.iter().map(|it| of_der(it)).collect();
                Some(ClientCert::new_with_certs(
                    &chain,
                    private_key(&folder.join(key))?,
                ))
            }
            (None, None) => None,
            _ => anyhow::bail!("needs both cert_file and key_file in tls_config, or neither"),
        };
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&authorities))
            .client_cert(client)
            .disable_verification(self.insecure_skip_verify)
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build())
    }
}

fn of_der(der: &[u8]) -> Certificate<'static> {
    Certificate::from_der(der).to_owned()
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>> {
    // It says what is wrong with a file.
    pem::private_key("key_file", path)?;
    Ok(PrivateKey::from_pem(&std::fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::CertifiedKey;
    use std::fs;

    fn said(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http.yml");
        fs::write(&path, text).unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        let error = Credentials::read(Some(&path)).unwrap_err();
        format!("{error:#}")
    }

    #[test]
    fn a_file_like_that_of_promtool_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(path("client.crt"), cert.pem()).unwrap();
        fs::write(path("client.key"), signing_key.serialize_pem()).unwrap();
        fs::write(path("password"), "open sesame\n").unwrap();
        let text = "basic_auth: { username: alice, password_file: password }\n\
                    tls_config:\n  ca_file: client.crt\n  cert_file: client.crt\n  key_file: client.key\n";
        fs::write(path("http.yml"), text).unwrap();
        let read = Credentials::read(Some(&path("http.yml"))).unwrap();
        // RFC 7617: of `alice:open sesame`.
        let expected = "Basic YWxpY2U6b3BlbiBzZXNhbWU=";
        assert_eq!(read.authorization.as_deref(), Some(expected));
        assert!(read.tls.client_cert().is_some() && !read.tls.disable_verification());
        assert!(matches!(read.tls.root_certs(), RootCerts::Specific(all) if all.len() == 1));
    }

    #[test]
    fn without_one_there_is_no_password_and_certificates_are_verified() {
        let read = Credentials::read(None).unwrap();
        assert_eq!(read.authorization, None);
        assert!(!read.tls.disable_verification() && read.tls.client_cert().is_none());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is() {
        for (text, named) in [
            ("\nbasic_auth: [secret]\n", "line 2"),
            ("proxy_url: secret\n", "proxy_url"),
            ("basic_auth: { username: alice }\n", "password_file"),
            (
                "basic_auth: { username: 'a:b', password: secret }\n",
                "colon",
            ),
            ("basic_auth: { username: a, password_file: none }\n", "none"),
            ("tls_config: { ca_file: empty }\n", "there is none in it"),
            ("tls_config: { cert_file: empty }\n", "key_file"),
            ("tls_config: { ca_file: none }\n", "cannot be read"),
        ] {
            let said = said(text);
            assert!(said.contains("http.yml") && said.contains(named), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
