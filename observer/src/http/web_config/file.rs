//! The keys of the web configuration, and which of their values can be held.

use crate::yaml;
use anyhow::{Result, bail, ensure};
use axum::http::{HeaderName, HeaderValue};
use bcrypt::HashParts;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Of a hash: one more doubles the time of a check. 17, the most that `htpasswd` makes, takes
/// about as long as Prometheus waits for a scrape.
const MAX_COST: u32 = 17;
/// What exporter-toolkit lets be set.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

/// All of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub tls_server_config: Option<Tls>,
    #[serde(deserialize_with = "or_default")]
    pub http_server_config: Http,
    /// By name, how their passwords are hashed.
    #[serde(deserialize_with = "or_default")]
    pub basic_auth_users: BTreeMap<String, String>,
    rate_limit: Option<IgnoredAny>,
}

/// Of connections.
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

/// Of answers.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    http2: bool,
    #[serde(deserialize_with = "headers")]
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl File {
    /// Reads and checks it; what it names is not looked at.
    ///
    /// # Errors
    /// With the line or the key that is wrong, and never with a hash or a password.
    pub fn parse(text: &str) -> Result<Self> {
        let file: Self = yaml::parse(text, "docs/WEB.md")?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.rate_limit.is_none(),
            "has rate_limit, which is not supported: leave it out; connections are bounded anyway"
        );
        ensure!(
            !self.http_server_config.http2,
            "has http2: true, but only HTTP/1.1 is served: leave it out"
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
        "has the user {user:?} in basic_auth_users: a name has at least one character, and no colon"
    );
    let cure = "make one with `htpasswd -nBC 10 NAME`, and write it between quotes";
    let Ok(parts) = hash.parse::<HashParts>() else {
        bail!("has no bcrypt hash for the user {user:?} in basic_auth_users: {cure}");
    };
    let cost = parts.get_cost();
    ensure!(
        (4..=MAX_COST).contains(&cost),
        "has a bcrypt hash of cost {cost} for the user {user:?} in basic_auth_users, but it must \
         be from 4 to {MAX_COST}: {cure}"
    );
    Ok(())
}

impl Tls {
    /// Files that it names, relative to its own.
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
                "has {key} in tls_server_config, which is not supported: write it to a file and \
                 name that by {instead}"
            );
        }
        ensure!(
            self.client_allowed_sans.is_none(),
            "has client_allowed_sans in tls_server_config, which is not supported: leave it out, \
             and have a client_ca_file that signs only who may ask"
        );
        for (key, path) in [("cert_file", &self.cert_file), ("key_file", &self.key_file)] {
            ensure!(
                !path.as_os_str().is_empty(),
                "has no {key} in tls_server_config: name a PEM file, or leave tls_server_config out"
            );
        }
        Ok(())
    }
}

/// A key without a value is as if it were not there.
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
