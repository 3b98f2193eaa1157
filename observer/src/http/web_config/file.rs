//! The keys of the web configuration, and checks of their values.

use crate::yaml;
use anyhow::{Result, bail, ensure};
use axum::http::{HeaderName, HeaderValue};
use bcrypt::HashParts;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Highest cost of a bcrypt hash; each step doubles the time of a check. 17, the most that `htpasswd`
/// makes, takes about as long as Prometheus waits for a scrape.
const MAX_COST: u32 = 17;
/// The headers that exporter-toolkit allows.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub tls_server_config: Option<Tls>,
    #[serde(deserialize_with = "or_default")]
    pub http_server_config: Http,
    /// Password hashes by name.
    #[serde(deserialize_with = "or_default")]
    pub basic_auth_users: BTreeMap<String, String>,
    rate_limit: Option<IgnoredAny>,
}

/// `tls_server_config`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub client_ca_file: Option<PathBuf>,
    #[serde(deserialize_with = "or_default")]
    pub client_auth_type: String,
    pub min_version: Option<String>,
    pub max_version: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub cipher_suites: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub curve_preferences: Vec<String>,
    pub prefer_server_cipher_suites: Option<bool>,
    cert: Option<IgnoredAny>,
    key: Option<IgnoredAny>,
    client_ca: Option<IgnoredAny>,
    client_allowed_sans: Option<IgnoredAny>,
}

/// `http_server_config`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    http2: bool,
    #[serde(deserialize_with = "headers")]
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl File {
    /// Parses and checks the text; the files it names are not read.
    ///
    /// # Errors
    /// With the line or the key that is wrong; never with a hash or a password.
    pub fn parse(text: &str) -> Result<Self> {
        let file: Self = yaml::parse(text, "docs/WEB.md")?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.rate_limit.is_none(),
            "has rate_limit, which is not supported; leave it out: connections are limited anyway"
        );
        ensure!(
            !self.http_server_config.http2,
            "has http2: true, but the server speaks only HTTP/1.1; leave it out"
        );
        if let Some(tls) = &self.tls_server_config {
            tls.check()?;
        }
        for (user, hash) in &self.basic_auth_users {
            check_user(user, hash)?;
        }
        Ok(())
    }
}

fn check_user(user: &str, hash: &str) -> Result<()> {
    ensure!(
        !user.is_empty() && !user.contains(':'),
        "has an invalid user {user:?} in basic_auth_users; a name has at least one character and no colon"
    );
    let fix = "make one with `htpasswd -nBC 10 NAME`, and quote it";
    let Ok(parts) = hash.parse::<HashParts>() else {
        bail!("has no bcrypt hash for the user {user:?} in basic_auth_users; {fix}");
    };
    let cost = parts.get_cost();
    ensure!(
        (4..=MAX_COST).contains(&cost),
        "has a bcrypt hash of cost {cost} for the user {user:?} in basic_auth_users, but the cost \
         must be from 4 to {MAX_COST}; {fix}"
    );
    Ok(())
}

impl Tls {
    /// The files it names, relative to the configuration.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let named = [Some(&self.cert_file), Some(&self.key_file)];
        let named = named.into_iter().chain([self.client_ca_file.as_ref()]);
        named.flatten().map(PathBuf::as_path)
    }

    fn check(&self) -> Result<()> {
        for (key, instead, is_set) in [
            ("cert", "cert_file", self.cert.is_some()),
            ("key", "key_file", self.key.is_some()),
            ("client_ca", "client_ca_file", self.client_ca.is_some()),
        ] {
            ensure!(
                !is_set,
                "has {key} in tls_server_config, which is not supported; write it to a file and set \
                 {instead}"
            );
        }
        ensure!(
            self.client_allowed_sans.is_none(),
            "has client_allowed_sans in tls_server_config, which is not supported; leave it out, and \
             use a client_ca_file that signs only allowed clients"
        );
        for (key, path) in [("cert_file", &self.cert_file), ("key_file", &self.key_file)] {
            ensure!(
                !path.as_os_str().is_empty(),
                "has no {key} in tls_server_config; set it to a PEM file, or leave tls_server_config out"
            );
        }
        Ok(())
    }
}

/// A key without a value counts as absent.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    source: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

fn headers<'de, D: Deserializer<'de>>(
    source: D,
) -> Result<Vec<(HeaderName, HeaderValue)>, D::Error> {
    let texts: BTreeMap<String, String> = or_default(source)?;
    let mut headers = Vec::new();
    for (name, value) in texts {
        let known = HEADERS
            .iter()
            .find(|known| known.eq_ignore_ascii_case(&name));
        let name = known.and_then(|known| known.parse().ok()).ok_or_else(|| {
            let known = HEADERS.join(", ");
            de::Error::custom(format!("the header {name} cannot be set, only {known}"))
        })?;
        let value = value.parse().map_err(|_| {
            de::Error::custom(format!("{name} has a value that no header can have"))
        })?;
        headers.push((name, value));
    }
    Ok(headers)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
