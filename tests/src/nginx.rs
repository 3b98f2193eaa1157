//! A real nginx in front of a Gunicorn.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{client::Client, observer::free_port, process, wait};

const PROGRAM: &str = "/usr/sbin/nginx";

/// A running nginx that passes every request on; stopped when dropped.
pub struct Nginx {
    child: Child,
    folder: TempDir,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

/// A request in nginx's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    pub path: String,
    /// Time to connect; in whole milliseconds, as all of these.
    pub connect_ms: f64,
    /// From the begin of connecting to the last byte of the response.
    pub response_ms: f64,
}

impl Nginx {
    /// Starts nginx before this upstream, such as `127.0.0.1:8000` or `unix:/run/socket`, and waits
    /// until it listens.
    pub fn start(upstream: &str) -> Result<Self> {
        let upstream = format!("upstream gunicorn {{ server {upstream} max_fails=0; }}");
        let pass = "proxy_pass http://gunicorn; proxy_read_timeout 60s;";
        Self::start_with(&upstream, pass)
    }

    /// Starts nginx so that it answers everything itself.
    pub fn start_alone() -> Result<Self> {
        Self::start_with("", "return 200 hello;")
    }

    fn start_with(upstream: &str, location: &str) -> Result<Self> {
        ensure!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} does not exist: run `cargo xtask setup`"
        );
        let folder = TempDir::new().context("cannot make a folder for nginx")?;
        let port = free_port()?;
        let at = folder.path().display();
        let file = folder.path().join("nginx.conf");
        fs::write(
            &file,
            configuration(&at.to_string(), port, upstream, location),
        )
        .with_context(|| format!("cannot write {}", file.display()))?;
        let output = File::create(folder.path().join("output"))?;
        let child = process::bound_to_us(PROGRAM)
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&file)
            // Before it has read where to log to.
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start nginx")?;
        let mut nginx = Self {
            child,
            folder,
            port,
        };
        wait::until("nginx to listen", || {
            if let Some(status) = nginx.child.try_wait()? {
                bail!("nginx ended with {status}; it said:\n{}", nginx.said());
            }
            Ok(Client::connect(nginx.port).is_ok().then_some(()))
        })?;
        Ok(nginx)
    }

    /// Pid of its master.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until this many requests are logged.
    pub fn wait_for_log(&self, count: usize) -> Result<Vec<Passed>> {
        let path = self.folder.path().join("access.log");
        wait::until(format!("{count} lines in nginx's log"), || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let complete = text.rfind('\n').map_or("", |end| &text[..end]);
            let lines: Vec<_> = complete.lines().collect();
            if lines.len() < count {
                return Ok(None);
            }
            let parsed = lines.iter().map(|line| {
                parse(line).with_context(|| format!("unreadable line of nginx's log: {line}"))
            });
            parsed.collect::<Result<Vec<_>>>().map(Some)
        })
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It ends its own worker process.
        process::end(&mut self.child, Duration::from_secs(5));
    }
}

fn configuration(folder: &str, port: u16, upstream: &str, location: &str) -> String {
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {folder}/{kind};\n"))
        .collect();
    format!(
        "daemon off;\n\
         user root;\n\
         worker_processes 1;\n\
         pid {folder}/nginx.pid;\n\
         error_log stderr;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n\
         {folders}\
         \x20   log_format times '$uri $upstream_connect_time $upstream_response_time';\n\
         \x20   access_log {folder}/access.log times;\n\
         \x20   {upstream}\n\
         \x20   server {{\n\
         \x20       listen 127.0.0.1:{port};\n\
         \x20       location / {{ {location} }}\n\
         \x20   }}\n\
         }}\n"
    )
}

fn parse(line: &str) -> Option<Passed> {
    let mut words = line.split(' ');
    let path = words.next()?.to_owned();
    let mut milliseconds = || {
        let seconds: f64 = words.next()?.parse().ok()?;
        Some(seconds * 1000.0)
    };
    Some(Passed {
        path,
        connect_ms: milliseconds()?,
        response_ms: milliseconds()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Passed, parse};

    #[test]
    fn a_line_of_the_log_is_read() {
        let expected = Passed {
            path: "/3/sleep".into(),
            connect_ms: 0.0,
            response_ms: 250.0,
        };
        assert_eq!(parse("/3/sleep 0.000 0.250"), Some(expected));
        assert_eq!(parse("/3/sleep - -"), None);
    }
}
