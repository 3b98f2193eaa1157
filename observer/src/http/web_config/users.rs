//! `basic_auth_users`: who may ask, by HTTP's Basic scheme (RFC 7617).
//!
//! A name that is not known takes as long as a wrong password, so that nobody learns names from
//! the time. A check keeps a processor busy for long, as bcrypt means to; few run at a time, and
//! who was let in once is known again by a keyed hash of name, password and its bcrypt hash, so that
//! a scrape each second costs none. That is forgotten with these users, when the file changes.

use anyhow::{Result, anyhow};
use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::{hmac, rand};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Who waits for longer for a check is told to come again.
const CHECK_WAIT: Duration = Duration::from_secs(10);
/// Of those who were let in; exporter-toolkit knows as many.
const KNOWN_LIMIT: usize = 100;

/// Who may ask.
pub struct Users {
    /// By name.
    hashes: BTreeMap<String, String>,
    /// Of nobody: checked for names that are not known, and as costly as any that are.
    decoy: String,
    checks: Arc<Semaphore>,
    key: hmac::Key,
    known: Mutex<HashSet<Vec<u8>>>,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Welcome,
    Refused,
    /// Too many are being checked.
    Busy,
}

struct Credentials {
    user: String,
    password: Vec<u8>,
}

impl Users {
    /// `None` without any: then everybody may ask. Hashes were checked to be some.
    ///
    /// # Errors
    /// When the kernel has no random numbers.
    pub fn new(hashes: BTreeMap<String, String>, checks: Arc<Semaphore>) -> Result<Option<Self>> {
        if hashes.is_empty() {
            return Ok(None);
        }
        let cost = |hash: &String| hash.parse::<HashParts>().map(|parts| parts.get_cost());
        let costs = hashes.values().filter_map(|hash| cost(hash).ok());
        let cost = costs.max().unwrap_or(bcrypt::DEFAULT_COST);
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new());
        Ok(Some(Self {
            hashes,
            decoy: format!("$2b${cost:02}${}", ".".repeat(53)),
            checks,
            key: key.map_err(|_| anyhow!("the kernel has no random numbers"))?,
            known: Mutex::default(),
        }))
    }

    /// Whether who sent this `Authorization` may ask.
    pub async fn admit(&self, authorization: Option<&HeaderValue>) -> Verdict {
        let Some(credentials) = authorization.and_then(Credentials::of) else {
            return Verdict::Refused;
        };
        let hash = self.hashes.get(&credentials.user);
        let is_user = hash.is_some();
        let hash = hash.unwrap_or(&self.decoy).clone();
        let tag = self.tag(&credentials, &hash);
        if is_user && self.known().contains(&tag) {
            return Verdict::Welcome;
        }
        let turn = Arc::clone(&self.checks).acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(CHECK_WAIT, turn).await else {
            return Verdict::Busy;
        };
        let check = tokio::task::spawn_blocking(move || {
            let is_right = bcrypt::verify(&credentials.password, &hash);
            // Also of one who is gone by now.
            drop(turn);
            is_right.unwrap_or(false)
        });
        let is_right = check.await.unwrap_or(false);
        if !(is_user && is_right) {
            return Verdict::Refused;
        }
        let mut known = self.known();
        if known.len() >= KNOWN_LIMIT {
            known.clear();
        }
        known.insert(tag);
        Verdict::Welcome
    }

    fn tag(&self, credentials: &Credentials, hash: &str) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        let parts = [
            credentials.user.as_bytes(),
            hash.as_bytes(),
            credentials.password.as_slice(),
        ];
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().to_vec()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<Vec<u8>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Credentials {
    fn of(authorization: &HeaderValue) -> Option<Self> {
        let (scheme, rest) = authorization.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = STANDARD.decode(rest.trim_matches(' ')).ok()?;
        let colon = text.iter().position(|&byte| byte == b':')?;
        let (user, password) = text.split_at(colon);
        Some(Self {
            user: String::from_utf8_lossy(user).into_owned(),
            password: password.get(1..)?.to_vec(),
        })
    }
}

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;
