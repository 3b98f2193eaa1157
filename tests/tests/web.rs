//! TLS and authentication; clients without them, or that send nothing, keep nobody out.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{Client, Request, fetch},
    observer::{self, Observer},
    process,
    prometheus::Prometheus,
    skip,
    tmux::Tmux,
    wait,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rcgen::CertifiedKey;
use tempfile::TempDir;

/// Clients that mean no good, at a time.
const CROWD: usize = 10_000;
/// Of them, so many come at once: fewer than the kernel lets wait.
const QUEUE: usize = 64;
/// `/metrics` must answer within this, whatever they do.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two scrapes, so that the crowd has a processor, too.
const PAUSE: Duration = Duration::from_millis(20);
/// More memory than that the observer, built without optimisation, must never need.
const MEMORY: u64 = 128 << 20;
/// Of `open sesame`, by the bcrypt of libxcrypt.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";
const USER: &str = "alice:open sesame";

fn recording(folder: &TempDir) -> Result<PathBuf> {
    let recording = folder.path().join("fleet.rec");
    observer::fleet(&recording, 3, 4, 10)?;
    Ok(recording)
}

/// So that the crowd can connect.
fn raise_files() -> Result<()> {
    let wanted = CROWD as u64 + 1000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))
            .context("cannot open so many files")?;
    }
    Ok(())
}

fn files(observer: &Observer) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", observer.pid()))?.count())
}

/// Scrapes again and again while `work` is done; how often, and how long the longest took.
fn scraped_while(port: u16, work: impl FnOnce() -> Result<()>) -> Result<(usize, Duration)> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !is_over.load(Ordering::Relaxed) {
                let start = Instant::now();
                let answer = fetch(port, &Request::get("/metrics"))?;
                longest = longest.max(start.elapsed());
                let body = String::from_utf8_lossy(&answer.body);
                ensure!(answer.status == 200 && body.contains("gunicorn_worker_info{"));
                count += 1;
                thread::sleep(PAUSE);
            }
            Ok((count, longest))
        });
        let worked = work();
        is_over.store(true, Ordering::Relaxed);
        let scraped = scraper.join();
        worked?;
        scraped.map_err(|_| anyhow::anyhow!("the scraper panicked"))?
    })
}

/// A crowd at a port.
struct Crowd {
    port: u16,
    /// How many came.
    came: usize,
}

impl Crowd {
    /// One more comes, and says this at once.
    fn come(&mut self, says: &[u8]) -> Result<TcpStream> {
        self.came += 1;
        if self.came.is_multiple_of(QUEUE) {
            // Who comes after them is let in after them.
            let asked = fetch(self.port, &Request::get("/healthz"))?;
            ensure!(asked.status == 200, "/healthz: {}", asked.status);
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, wait::BOUND)?;
        stream.set_nonblocking(true)?;
        // It may have been cut off already.
        let _ = stream.write(says);
        Ok(stream)
    }

    /// So many come, each says something each round, and comes again if it was cut off.
    fn rounds(
        port: u16,
        size: usize,
        rounds: usize,
        says: impl Fn(usize) -> Vec<u8>,
    ) -> Result<()> {
        let mut crowd = Self { port, came: 0 };
        let come = |_| crowd.come(&says(0));
        let mut streams = (0..size).map(come).collect::<Result<Vec<_>>>()?;
        for round in 1..rounds {
            for stream in &mut streams {
                let sent = stream.write(&says(round));
                if sent.is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
                    *stream = crowd.come(&says(0))?;
                }
            }
        }
        Ok(())
    }
}

#[test]
fn ten_thousand_clients_that_are_slow_or_send_junk_keep_no_scrape_out_and_cost_nothing()
-> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    raise_files()?;
    let folder = TempDir::new()?;
    let observer = Observer::show(&recording(&folder)?)?;
    let port = observer.port;
    let (before, opened) = (observer.scrape_text()?, files(&observer)?);
    let drip = b"GET /metrics HTTP/1.1\r\nHost: h\r\n";
    let huge = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; 1 << 15]].concat();
    let ask = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(20);
    let junk = [ask.as_bytes(), b"\0\xff GET\r\n\r\n"].concat();
    let noise = || -> Vec<u8> { (0..512).map(|_| fastrand::u8(..)).collect() };
    type Says<'a> = Box<dyn Fn(usize) -> Vec<u8> + 'a>;
    let crowds: [(&str, usize, usize, Says<'_>); 5] = [
        ("nothing", CROWD, 1, Box::new(|_| Vec::new())),
        (
            "a byte now and then",
            CROWD,
            2,
            Box::new(|round| vec![drip[round]]),
        ),
        (
            "a head without an end",
            CROWD / 5,
            1,
            Box::new(|_| huge.clone()),
        ),
        ("noise", CROWD / 5, 1, Box::new(|_| noise())),
        (
            "junk after requests whose answers it does not read",
            CROWD / 20,
            1,
            Box::new(|_| junk.clone()),
        ),
    ];
    for (what, size, rounds, says) in crowds {
        let start = Instant::now();
        let (count, longest) = scraped_while(port, || Crowd::rounds(port, size, rounds, says))
            .with_context(|| format!("a crowd that says {what}"))?;
        let memory = process::peak_memory(observer.pid())?;
        println!(
            "{what}: {count} scrapes, the longest took {longest:?}; {} MiB; {:?}",
            memory >> 20,
            start.elapsed()
        );
        ensure!(
            count > 0 && longest < ANSWER,
            "{what}: {count} scrapes, {longest:?}"
        );
        ensure!(memory < MEMORY, "{what}: {memory} bytes");
    }
    wait::until("all to be as before", || {
        Ok((files(&observer)? <= opened).then_some(()))
    })?;
    ensure!(observer.scrape_text()? == before, "it says something else");
    let log = observer.stderr()?;
    ensure!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    observer.stop()?;
    Ok(())
}

#[test]
fn a_client_that_sends_a_byte_a_second_is_cut_off() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let observer = Observer::show(&recording(&folder)?)?;
    let mut slow = TcpStream::connect((Ipv4Addr::LOCALHOST, observer.port))?;
    slow.set_read_timeout(Some(Duration::from_secs(1)))?;
    let start = Instant::now();
    let cut = loop {
        let _ = slow.write(b"G");
        let mut answer = [0; 64];
        match slow.read(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            cut => break cut,
        }
        ensure!(
            start.elapsed() < Duration::from_secs(15),
            "it is not cut off"
        );
    };
    let is_answered = cut.is_ok_and(|bytes| bytes > 0);
    ensure!(!is_answered, "it was answered");
    let mut idle = Client::connect(observer.port)?;
    ensure!(idle.request(&Request::get("/metrics"))?.status == 200);
    observer.stop()?;
    Ok(())
}

/// A folder with a certificate for `localhost`, and a web configuration that asks for a password.
fn guarded() -> Result<(TempDir, PathBuf)> {
    let folder = TempDir::new()?;
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let path = |name| folder.path().join(name);
    fs::write(path("server.crt"), cert.pem())?;
    fs::write(path("server.key"), signing_key.serialize_pem())?;
    let config = path("web.yml");
    let text = format!(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n\
         basic_auth_users:\n  alice: {HASH}\n"
    );
    fs::write(&config, text)?;
    Ok((folder, config))
}

/// What curl gets, and how it ended.
fn curl(folder: &Path, url: &str, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new("curl")
        .args(["--silent", "--include", "--max-time", "10", "--cacert"])
        .arg(folder.join("server.crt"))
        .args(arguments)
        .arg(url)
        .output()
        .context("cannot run curl")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.code(), said))
}

#[test]
fn curl_and_prometheus_are_let_in_over_tls_with_a_password_and_nobody_else_is() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (folder, config) = guarded()?;
    let observer = Observer::show_guarded(&recording(&folder)?, &config)?;
    let url = format!("https://localhost:{}/metrics", observer.port);
    let (code, said) = curl(folder.path(), &url, &["--user", USER])?;
    ensure!(
        code == Some(0) && said.starts_with("HTTP/1.1 200"),
        "{code:?} {said}"
    );
    ensure!(said.contains("gunicorn_worker_info{"), "{said}");
    for arguments in [
        &[][..],
        &["--user", "alice:"],
        &["--user", "bob:open sesame"],
        &["--http2", "--tlsv1.3"],
    ] {
        let (code, said) = curl(folder.path(), &url, arguments)?;
        ensure!(
            code == Some(0) && said.starts_with("HTTP/1.1 401"),
            "{code:?} {said}"
        );
        ensure!(!said.contains("gunicorn_worker"), "{said}");
    }
    let (code, said) = curl(
        folder.path(),
        &url.replace("https", "http"),
        &["--user", USER],
    )?;
    ensure!(
        code != Some(0) && !said.contains("gunicorn_"),
        "{code:?} {said}"
    );
    let prometheus = Prometheus::start_with(
        observer.port,
        &format!(
            "scheme: https\n\
             tls_config: {{ca_file: {}, server_name: localhost}}\n\
             basic_auth: {{username: alice, password: open sesame}}",
            folder.path().join("server.crt").display()
        ),
        &[],
    )?;
    wait::until("Prometheus to have a series", || {
        Ok((!prometheus.query("gunicorn_worker_info")?.is_empty()).then_some(()))
    })?;
    let targets = prometheus.targets()?;
    let is_up = targets
        .iter()
        .all(|target| target.health == "up" && target.last_error.is_empty());
    ensure!(is_up, "{targets:?}");
    observer.stop()?;
    Ok(())
}

#[test]
fn top_shows_a_guarded_daemon_to_who_has_its_password() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (folder, config) = guarded()?;
    let observer = Observer::show_guarded(&recording(&folder)?, &config)?;
    let url = format!("https://localhost:{}", observer.port);
    let http = folder.path().join("http.yml");
    let tmux = Tmux::start(200, 30)?;
    for (text, fix) in [
        (
            "",
            "set `ca_file` in --http-config to the CA of its certificate",
        ),
        (
            "tls_config: { ca_file: server.crt }\n\
             basic_auth: { username: alice, password: open }\n",
            "authentication required (HTTP 401); set user and password in --http-config",
        ),
    ] {
        fs::write(&http, text)?;
        tmux.run_top(&format!("--connect {url} --http-config {}", http.display()))?;
        tmux.wait_for(fix, |screen| {
            screen.replace('\n', " ").contains(fix) && screen.contains("ended 1")
        })?;
    }
    let text = fs::read_to_string(&http)?;
    fs::write(&http, text.replace("open", "open sesame"))?;
    tmux.run_top(&format!("--connect {url} --http-config {}", http.display()))?;
    tmux.wait_for("what the daemon says", |screen| {
        screen.contains(&format!("of {url}")) && screen.contains("[2 Apps]")
    })?;
    tmux.press(&["q"])?;
    tmux.wait_for("its end", |screen| screen.contains("ended 0"))?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_renewed_certificate_and_changed_users_hold_without_a_restart() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (folder, config) = guarded()?;
    let observer = Observer::show_guarded(&recording(&folder)?, &config)?;
    let url = format!("https://localhost:{}/healthz", observer.port);
    let (renewed, _) = guarded()?;
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text.replace("alice:", "bob:"))?;
    for name in ["server.crt", "server.key"] {
        fs::copy(renewed.path().join(name), folder.path().join(name))?;
    }
    // curl trusts the renewed one alone.
    wait::until("what was changed to hold", || {
        let (_, said) = curl(renewed.path(), &url, &["--user", "bob:open sesame"])?;
        Ok(said.starts_with("HTTP/1.1 200").then_some(()))
    })?;
    let (_, said) = curl(renewed.path(), &url, &["--user", USER])?;
    ensure!(said.starts_with("HTTP/1.1 401"), "{said}");
    fs::write(&config, "nonsense: 1\n")?;
    wait::until("the log to say what is wrong", || {
        let (_, said) = curl(renewed.path(), &url, &["--user", "bob:open sesame"])?;
        ensure!(said.starts_with("HTTP/1.1 200"), "{said}");
        Ok(observer.stderr()?.contains("nonsense").then_some(()))
    })?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_web_configuration_that_is_wrong_is_refused_at_the_start_with_the_fix() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let recording = recording(&folder)?;
    let config = folder.path().join("web.yml");
    for (text, fix) in [
        ("basic_auth_users:\n  bob: secret\n", "htpasswd"),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n",
            "cannot be read",
        ),
        ("\n\nusers: 1\n", "line 3"),
    ] {
        fs::write(&config, text)?;
        let listen = format!("127.0.0.1:{}", observer::free_port()?);
        let output = Command::new(observer::binary()?)
            .args(["replay", "--serve", "--listen", &listen, "--web-config"])
            .args([&config, &recording])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1) && output.stdout.is_empty(),
            "{output:?}"
        );
        ensure!(
            said.lines().count() == 1 && said.starts_with("gunicorn-observer: "),
            "{said}"
        );
        ensure!(
            said.contains("web.yml") && said.contains(fix),
            "no {fix:?} in {said}"
        );
        ensure!(!said.contains("secret"), "{said}");
    }
    Ok(())
}
