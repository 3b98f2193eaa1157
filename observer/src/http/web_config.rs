//! Who may ask, and how: the file that `--web-config` names, read anew when it changes.
//!
//! Its keys are those of Prometheus' exporters
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>).
//! docs/WEB.md says what of it is refused.
//!
//! - [`file`]: the keys; [`tls`]: certificates, versions, ciphers; [`users`]: passwords
//!
//! What a changed file says holds from the next connection or request on. A file that is wrong
//! by then is told in the log, and what held before goes on to hold; so it does when a file no
//! longer has TLS or users, as one that is just being written: nobody means to open a server by
//! that.

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

/// Files are looked at so often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Passwords that are checked at a time: each keeps a processor busy.
const CHECKS: usize = 2;

/// What holds for a connection or a request.
#[derive(Default)]
pub struct Rules {
    /// Without it, plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Without them, everybody may ask.
    pub users: Option<Users>,
    /// Of each answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The rules as of now.
#[derive(Clone)]
pub struct Web {
    inner: Arc<Inner>,
}

struct Inner {
    /// Without one, all may ask in plain HTTP.
    path: Option<PathBuf>,
    checks: Arc<Semaphore>,
    current: Mutex<Arc<Rules>>,
    watch: Mutex<Watch>,
    look_every: Duration,
}

/// What was read, so that a change of it is seen.
struct Watch {
    looked: Instant,
    files: Vec<(PathBuf, Option<Print>)>,
}

/// What of a file changes with it: a write its size and time, a replacement the file itself.
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
    /// Reads the file; without one, everybody may ask, in plain HTTP.
    ///
    /// # Errors
    /// When it cannot be read or is wrong, with the line or the key, and the cure.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        Self::looking(path, LOOK_EVERY)
    }

    fn looking(path: Option<&Path>, look_every: Duration) -> Result<Self> {
        let checks = Arc::new(Semaphore::new(CHECKS));
        let mut files = Vec::new();
        let rules = match path {
            Some(path) => read(path, &checks, &mut files)?,
            None => Rules::default(),
        };
        let watch = Watch {
            looked: Instant::now(),
            files,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.map(Path::to_owned),
                checks,
                current: Mutex::new(Arc::new(rules)),
                watch: Mutex::new(watch),
                look_every,
            }),
        })
    }

    /// How a URL begins.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.held().tls.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// What holds now.
    #[must_use]
    pub fn now(&self) -> Arc<Rules> {
        if let Some(path) = &self.inner.path {
            // Who comes while another looks gets what held before.
            match self.inner.watch.try_lock() {
                Ok(mut watch) => self.look(path, &mut watch),
                Err(TryLockError::Poisoned(watch)) => self.look(path, &mut watch.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.held()
    }

    fn held(&self) -> Arc<Rules> {
        let current = self.inner.current.lock();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self, path: &Path, watch: &mut Watch) {
        if watch.looked.elapsed() < self.inner.look_every {
            return;
        }
        watch.looked = Instant::now();
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
                tracing::info!("the web configuration {} was read anew", path.display());
            }
            Err(error) => {
                tracing::error!("{error:#}; what held before goes on to hold");
                // What was not come to this time can still change.
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

/// A server that runs is not opened.
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
                "the web configuration {name} no longer has {key}: put it back, or restart \
                 gunicorn-observer to go on without"
            );
        }
    }
    Ok(())
}

/// Reads a file and those that it names, and tells of each what it was like before.
fn read(
    path: &Path,
    checks: &Arc<Semaphore>,
    files: &mut Vec<(PathBuf, Option<Print>)>,
) -> Result<Rules> {
    let mut look = |path: &Path| files.push((path.to_owned(), Print::of(path)));
    look(path);
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("the web configuration {name} cannot be read; check --web-config")
    })?;
    let file = File::parse(&text).with_context(|| format!("the web configuration {name}"))?;
    // What is named is relative to the file, as in exporter-toolkit.
    let folder = path.parent().unwrap_or(Path::new(""));
    let tls = file.tls_server_config.as_ref();
    for named in tls.into_iter().flat_map(file::Tls::files) {
        look(&folder.join(named));
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
