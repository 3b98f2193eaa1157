//! TLS, authentication and headers: the file of `--web-config`, which is read again when it changes.
//!
//! Its keys are those of Prometheus' exporters
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>).
//! docs/WEB.md has the keys that are refused.
//!
//! - [`mod@file`]: the keys; [`tls`]: certificates, versions, ciphers; [`users`]: passwords
//!
//! A changed file applies from the next connection or request. If the file is invalid, the log says so
//! and the previous configuration stays. It also stays when the file has lost TLS or users, because
//! the file may be in the middle of a write, and a running server must never lose its protection.

pub mod file;
pub mod tls;
pub mod users;

use anyhow::{Context as _, Result, bail};
use axum::http::{HeaderName, HeaderValue};
use file::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio_rustls::rustls::ServerConfig;
use users::Users;

/// Least time between two checks of the files.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Most password checks at a time: each keeps a processor busy.
const CHECKS: usize = 2;

/// The configuration of a connection or a request.
#[derive(Default)]
pub struct Rules {
    /// `None` for plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// `None` for no authentication.
    pub users: Option<Users>,
    /// Headers of each response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The current rules.
#[derive(Clone)]
pub struct Web {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` for plain HTTP without authentication.
    path: Option<PathBuf>,
    checks: Arc<Semaphore>,
    current: Mutex<Arc<Rules>>,
    watch: Mutex<Watch>,
    check_every: Duration,
}

/// The files that were read, to notice a change.
struct Watch {
    checked: Instant,
    files: Vec<(PathBuf, Option<Print>)>,
}

/// What changes with a file: a write changes size and time, a replacement the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    inode: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
}

impl Print {
    fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: (data.dev(), data.ino()),
            bytes: data.size(),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

impl Web {
    /// Reads the file; without one, the server is plain HTTP without authentication.
    ///
    /// # Errors
    /// When the file cannot be read or is invalid, with the line or the key, and the fix.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        Self::checking(path, CHECK_EVERY)
    }

    fn checking(path: Option<&Path>, check_every: Duration) -> Result<Self> {
        let checks = Arc::new(Semaphore::new(CHECKS));
        let mut files = Vec::new();
        let rules = match path {
            Some(path) => read(path, &checks, &mut files)?,
            None => Rules::default(),
        };
        let watch = Watch {
            checked: Instant::now(),
            files,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.map(Path::to_owned),
                checks,
                current: Mutex::new(Arc::new(rules)),
                watch: Mutex::new(watch),
                check_every,
            }),
        })
    }

    /// The scheme of the URL.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.held().tls.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// The current rules, after a check for changes.
    #[must_use]
    pub fn now(&self) -> Arc<Rules> {
        if let Some(path) = &self.inner.path {
            // While another caller checks the files, the previous rules hold.
            match self.inner.watch.try_lock() {
                Ok(mut watch) => self.check(path, &mut watch),
                Err(TryLockError::Poisoned(watch)) => self.check(path, &mut watch.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.held()
    }

    fn held(&self) -> Arc<Rules> {
        let current = self.inner.current.lock();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    fn check(&self, path: &Path, watch: &mut Watch) {
        if watch.checked.elapsed() < self.inner.check_every {
            return;
        }
        watch.checked = Instant::now();
        let is_same = |(path, print): &(PathBuf, Option<Print>)| Print::of(path) == *print;
        if watch.files.iter().all(is_same) {
            return;
        }
        let mut files = Vec::new();
        let held = self.held();
        let read = read(path, &self.inner.checks, &mut files)
            .and_then(|rules| is_no_weaker(path, &held, &rules).map(|()| rules));
        match read {
            Ok(rules) => {
                let current = self.inner.current.lock();
                *current.unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
                tracing::info!(path = %path.display(), "web configuration reloaded");
            }
            Err(error) => {
                tracing::error!("{error:#}; the previous configuration stays");
                // Files that were not read this time can still change.
                let old = std::mem::take(&mut watch.files);
                let is_new = |old: &(PathBuf, _)| files.iter().all(|(path, _)| *path != old.0);
                let more: Vec<_> = old.into_iter().filter(|old| is_new(old)).collect();
                files.extend(more.into_iter().map(|(path, _)| {
                    let print = Print::of(&path);
                    (path, print)
                }));
            }
        }
        watch.files = files;
    }
}

/// A running server must not lose TLS or authentication.
fn is_no_weaker(path: &Path, held: &Rules, new: &Rules) -> Result<()> {
    let name = path.display();
    for (key, had, has) in [
        ("tls_server_config", held.tls.is_some(), new.tls.is_some()),
        (
            "basic_auth_users",
            held.users.is_some(),
            new.users.is_some(),
        ),
    ] {
        if had && !has {
            bail!(
                "web configuration {name}: {key} is gone; put it back, or restart gunicorn-observer to \
                 run without it"
            );
        }
    }
    Ok(())
}

/// Reads the configuration and the files it names, and notes their state before the read.
fn read(
    path: &Path,
    checks: &Arc<Semaphore>,
    files: &mut Vec<(PathBuf, Option<Print>)>,
) -> Result<Rules> {
    let mut note = |path: &Path| files.push((path.to_owned(), Print::of(path)));
    note(path);
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("failed to read the web configuration {name}; check --web-config")
    })?;
    let file = File::parse(&text).with_context(|| format!("the web configuration {name}"))?;
    // Paths are relative to the file, as in exporter-toolkit.
    let folder = path.parent().unwrap_or(Path::new(""));
    let tls = file.tls_server_config.as_ref();
    for named in tls.into_iter().flat_map(file::Tls::files) {
        note(&folder.join(named));
    }
    let tls = tls
        .map(|tls| tls::config(tls, folder))
        .transpose()
        .with_context(|| format!("the web configuration {name}"))?;
    Ok(Rules {
        tls: tls.map(Arc::new),
        users: Users::new(file.basic_auth_users, Arc::clone(checks))?,
        headers: file.http_server_config.headers,
    })
}

#[cfg(test)]
#[path = "web_config/web_tests.rs"]
mod tests;
