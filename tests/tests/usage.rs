//! Every refusal is one line with the failure, its reason and the fix, and has the right exit code.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Result, ensure};
use end_to_end::{
    client::{Request, fetch},
    gunicorn::Builder,
    observer::{self, Observer},
    skip,
    venv::Venv,
};
use tempfile::TempDir;

const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// One line on stderr that has all these words, and the exit code.
fn refused(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code),
        "{}, not {code}; it said:\n{stderr}",
        output.status
    );
    // Log lines begin with their time; what is left is the refusal.
    let is_log = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
    let said: Vec<_> = stderr.lines().filter(|line| !is_log(line)).collect();
    ensure!(said.len() == 1, "not one line:\n{stderr}");
    ensure!(
        said[0].starts_with("gunicorn-observer: "),
        "who says so? {stderr}"
    );
    let lower = said[0].to_lowercase();
    for word in words {
        ensure!(lower.contains(word), "no {word:?} in: {stderr}");
    }
    Ok(())
}

#[test]
fn without_root_it_names_the_privileges_it_requires() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let listen = format!("127.0.0.1:{}", observer::free_port()?);
    let output = observer::output_as_nobody(["run", "--listen", &listen])?;
    refused(&output, FAILED, &["root", "sudo"])
}

#[test]
fn a_pid_that_is_no_process_is_named() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut child = Command::new("true").spawn()?;
    child.wait()?;
    let dead = child.id().to_string();
    refused(
        &observer::output(["run", "--pid", &dead])?,
        FAILED,
        &[&dead, "gunicorn-observer list"],
    )
}

#[test]
fn a_process_that_is_no_gunicorn_is_named() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let own = std::process::id().to_string();
    refused(
        &observer::output(["run", "--pid", &own])?,
        FAILED,
        &[&own, "gunicorn-observer list"],
    )
}

#[test]
fn a_port_that_is_taken_is_named() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    refused(
        &observer::output(["run", "--listen", &address])?,
        FAILED,
        &[&address, "--listen"],
    )
}

#[test]
fn a_configuration_key_that_is_unknown_is_named() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let path = folder.path().join("observer.toml");
    fs::write(&path, "lisen = \"127.0.0.1:9918\"\n")?;
    let path = path.to_string_lossy();
    let output = observer::output(["run", "--config", &path])?;
    refused(&output, FAILED, &[&path.to_lowercase(), "lisen", "listen"])
}

#[test]
fn an_unknown_flag_is_a_usage_error() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let output = observer::output(["run", "--no-such-flag"])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(USAGE),
        "{}: {stderr}",
        output.status
    );
    ensure!(stderr.contains("--no-such-flag"), "{stderr}");
    Ok(())
}

#[test]
fn a_wrong_filter_is_a_usage_error_with_an_example() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for (option, value, example) in [
        ("--status", "5x", "404, 5xx or none"),
        ("--min-duration", "100", "100ms, 90s or 1h30m"),
        ("--route", "users", "/users/*"),
    ] {
        let output = observer::output(["trace", option, value])?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(USAGE),
            "{}: {stderr}",
            output.status
        );
        ensure!(
            stderr.contains(option) && stderr.contains(example),
            "{stderr}"
        );
    }
    Ok(())
}

#[test]
fn a_recording_that_is_cut_or_missing_is_named() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app").start()?;
    let observer = Observer::record_for(&[server.pid()])?;
    ensure!(fetch(server.port, &Request::get("/hello"))?.status == 200);
    observer.wait_for_requests(server.pid(), 1)?;
    let stopped = observer.stop()?;
    let whole = fs::read(stopped.recording())?;
    let folder = TempDir::new()?;
    let path = folder.path().join("cut");
    fs::write(&path, &whole[..whole.len() - 3])?;
    refused_recording(&path, "record")?;
    fs::write(&path, "no recording at all")?;
    refused_recording(&path, "record")?;
    fs::remove_file(&path)?;
    refused_recording(&path, "check the path")
}

/// The refusal names the file, and after it the fix.
fn refused_recording(path: &Path, fix: &str) -> Result<()> {
    let name = path.to_string_lossy();
    let output = observer::output(["replay", &name])?;
    refused(&output, FAILED, &[&name.to_lowercase()])?;
    let beyond = String::from_utf8_lossy(&output.stderr).replace(&*name, "");
    ensure!(beyond.contains(fix), "no {fix:?} in: {beyond}");
    Ok(())
}
