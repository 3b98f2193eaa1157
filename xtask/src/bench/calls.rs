//! The system calls that a worker makes for a request, as strace counts them.

use std::{collections::BTreeMap, fs, io::Read as _, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{process, wait};
use nix::sys::signal::Signal;

use super::stand::Served;

/// How many of each, by name.
pub fn of_a_request(served: &Served, requests: u32) -> Result<BTreeMap<String, f64>> {
    let folder = tempfile::TempDir::new().context("no folder for strace")?;
    let (counted, said) = (folder.path().join("counted"), folder.path().join("said"));
    let mut strace = process::bound_to_us("strace")
        .args(["-f", "-c", "-U", "name,calls", "-o"])
        .arg(&counted)
        .args(["-p", &served.worker.to_string()])
        .stdin(Stdio::null())
        .stderr(fs::File::create(&said)?)
        .spawn()
        .context("cannot start strace")?;
    let attached = wait::until("strace to follow the worker", || {
        let mut text = String::new();
        fs::File::open(&said)?.read_to_string(&mut text)?;
        Ok(text.contains("attached").then_some(()))
    });
    let answered = attached.and_then(|()| served.window(requests));
    // It lets go of the worker, and writes.
    process::signal(strace.id(), Signal::SIGINT)?;
    process::wait_for(&mut strace, wait::BOUND)?;
    answered?;
    let text = fs::read_to_string(&counted).context("strace counted nothing")?;
    let calls = parse(&text);
    ensure!(!calls.is_empty(), "strace counted nothing:\n{text}");
    let a_request = |(name, calls): (String, f64)| (name, calls / f64::from(requests));
    Ok(calls.into_iter().map(a_request).collect())
}

/// Lines of a name and a number, between rules.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, calls) = (words.next()?, words.next()?);
        (name != "total").then(|| Some((name.to_owned(), calls.parse().ok()?)))?
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn calls_are_counted_by_name_without_their_sum() {
        let text = "syscall               calls\n---------------- ---------\n\
                    close                  300\nrecvfrom               600\n\
                    ---------------- ---------\ntotal                  900\n";
        let calls = parse(text);
        assert_eq!(calls.len(), 2);
        assert_eq!(calls.get("recvfrom"), Some(&600.0));
    }
}
