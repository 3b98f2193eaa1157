//! Lines of a recording, from the log of `strace -f -ttt`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// The file number of the marks that `tests/apps/recorded/sitecustomize.py` writes.
const MARKS: i64 = 999;
/// The longest first line of data that is kept.
const LINE: usize = 60;

/// A recording.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// `microseconds thread call connection result text`, see the recordings' README.
    pub lines: Vec<String>,
    /// Accepted connections that are not closed.
    pub open: usize,
}

/// A call that strace showed whole, or put together from two lines.
struct Call<'a> {
    thread: &'a str,
    us: u64,
    name: &'a str,
    /// The text between the parentheses.
    arguments: String,
    /// The result, or the negative error number.
    result: i64,
}

/// Reads the calls on accepted connections.
pub fn read(log: &str) -> Result<Calls> {
    let mut begun = BTreeMap::new();
    let mut numbers = Numbers::default();
    let mut lines = Vec::new();
    let mut start = None;
    for line in log.lines() {
        let Some(call) = call(line, &mut begun).with_context(|| line.to_owned())? else {
            continue;
        };
        if let Some(text) = numbers.recorded(&call).with_context(|| line.to_owned())? {
            let us = call.us - *start.get_or_insert(call.us);
            let thread = Numbers::of(&mut numbers.threads, call.thread);
            lines.push(format!("{us} {thread} {text}"));
        }
    }
    let open = numbers.connections.len();
    Ok(Calls { lines, open })
}

/// Threads, connections and requests by their order of appearance.
#[derive(Default)]
struct Numbers {
    threads: BTreeMap<String, usize>,
    requests: BTreeMap<String, usize>,
    /// Open ones, by file number.
    connections: BTreeMap<i64, usize>,
    accepted: usize,
}

impl Numbers {
    fn of(known: &mut BTreeMap<String, usize>, name: &str) -> usize {
        let next = known.len() + 1;
        *known.entry(name.to_owned()).or_insert(next)
    }

    /// The line of a call, if it is one on a connection.
    fn recorded(&mut self, call: &Call<'_>) -> Result<Option<String>> {
        let Call { result, .. } = call;
        if call.name.starts_with("accept") {
            if *result < 0 {
                return Ok(None);
            }
            self.accepted += 1;
            self.connections.insert(*result, self.accepted);
            return Ok(Some(format!("accept {}", self.accepted)));
        }
        let file = call.arguments.split([',', ')']).next().unwrap_or_default();
        let file: i64 = file.trim().parse().unwrap_or(-1);
        if file == MARKS {
            return self.mark(&call.arguments).map(Some);
        }
        let Some(&connection) = self.connections.get(&file) else {
            return Ok(None);
        };
        let name = match call.name {
            "read" | "recvfrom" | "recvmsg" | "readv" => "read",
            "write" | "sendto" | "sendmsg" | "writev" | "sendfile" => "write",
            "close" => {
                self.connections.remove(&file);
                return Ok(Some(format!("close {connection}")));
            }
            "shutdown" => "shutdown",
            _ => return Ok(None),
        };
        let line = first_line(&call.arguments).map(|line| format!(" {line}"));
        let line = line.unwrap_or_default();
        Ok(Some(format!("{name} {connection} {result}{line}")))
    }

    /// `exit 9 4 200 6` with its own numbers of connection and request.
    fn mark(&mut self, arguments: &str) -> Result<String> {
        let text = arguments.split('"').nth(1).context("no text")?;
        let mut words = text.splitn(4, ' ');
        let mut word = || words.next().context("too few words");
        let (what, file, request, rest) = (word()?, word()?, word()?, word()?);
        let connection = file
            .parse()
            .ok()
            .and_then(|file| self.connections.get(&file));
        let connection = connection.map_or("-".to_owned(), ToString::to_string);
        let request = match request {
            "-" => "-".to_owned(),
            request => Self::of(&mut self.requests, request).to_string(),
        };
        Ok(format!("{what} {connection} {request} {rest}"))
    }
}

/// A call that returned on this line.
fn call<'a>(
    line: &'a str,
    begun: &mut BTreeMap<&'a str, (&'a str, String)>,
) -> Result<Option<Call<'a>>> {
    let mut words = line.splitn(2, ' ');
    let thread = words.next().unwrap_or_default();
    let rest = words.next().unwrap_or_default().trim_start();
    let Some((time, text)) = rest.split_once(' ') else {
        return Ok(None);
    };
    let (name, arguments) = match text.strip_prefix("<... ") {
        Some(resumed) => {
            let (_, rest) = resumed.split_once(" resumed>").context("not resumed")?;
            let Some((name, first)) = begun.remove(thread) else {
                // It began before strace did.
                return Ok(None);
            };
            (name, format!("{first}{rest}"))
        }
        None => match text.split_once('(') {
            Some((name, arguments)) => (name, arguments.to_owned()),
            None => return Ok(None),
        },
    };
    if let Some(first) = arguments.strip_suffix("<unfinished ...>") {
        begun.insert(thread, (name, first.to_owned()));
        return Ok(None);
    }
    let Some((arguments, result)) = arguments.rsplit_once(" = ") else {
        return Ok(None);
    };
    Ok(Some(Call {
        thread,
        us: microseconds(time)?,
        name,
        result: number(result)?,
        arguments: arguments.trim_end().trim_end_matches(')').to_owned(),
    }))
}

fn microseconds(time: &str) -> Result<u64> {
    let (seconds, micros) = time.split_once('.').context("no fraction")?;
    Ok(seconds.parse::<u64>()? * 1_000_000 + micros.parse::<u64>()?)
}

/// `45`, `-1 EAGAIN (Resource temporarily unavailable)`, or `?` of a thread that ended.
fn number(result: &str) -> Result<i64> {
    let mut words = result.split(' ');
    let value = words.next().unwrap_or_default();
    if value == "?" {
        return Ok(0);
    }
    Ok(match (value, words.next()) {
        ("-1", Some("EAGAIN")) => -11,
        ("-1", Some("EBADF")) => -9,
        ("-1", Some("EPIPE")) => -32,
        ("-1", Some("ECONNRESET")) => -104,
        ("-1", Some("ENOTCONN")) => -107,
        ("-1", Some(error)) => bail!("the number of {error} is not known"),
        (value, _) => value.parse()?,
    })
}

/// The first line of data that is the beginning of a head, as strace shows it.
fn first_line(arguments: &str) -> Option<&str> {
    let data = arguments.split('"').nth(1)?;
    let (line, _) = data.split_once("\\r\\n")?;
    let is_plain = !line.contains('\\') && line.starts_with(|c: char| c.is_ascii_uppercase());
    (is_plain && line.contains(' ') && line.len() <= LINE).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::read;

    const LOG: &str = r#"71    1700000000.000000 accept4(5, {sa_family=AF_INET}, [16], SOCK_CLOEXEC) = 9
71    1700000000.000005 read(4, "x", 1) = 1
72    1700000000.000010 recvfrom(9,  <unfinished ...>
71    1700000000.000015 accept4(5, 0x7f, [16], SOCK_CLOEXEC) = -1 EAGAIN (Resource temporarily unavailable)
72    1700000000.000030 <... recvfrom resumed>"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", 8192, 0, NULL, NULL) = 31
72    1700000000.000040 write(999, "enter 9 17 GET /a", 17) = -1 EBADF (Bad file descriptor)
72    1700000000.000050 sendto(9, "HTTP/1.1 200 OK\r\n"..., 150, 0, NULL, 0) = 150
72    1700000000.000060 write(999, "exit 9 17 200 6", 15) = -1 EBADF (Bad file descriptor)
72    1700000000.000070 close(9) = 0
72    1700000000.000080 +++ exited with 0 +++
"#;

    #[test]
    fn calls_on_connections_are_numbered() {
        let calls = read(LOG).expect("a good log");
        assert_eq!(
            calls.lines,
            [
                "0 1 accept 1",
                "30 2 read 1 31 GET /a HTTP/1.1",
                "40 2 enter 1 1 GET /a",
                "50 2 write 1 150 HTTP/1.1 200 OK",
                "60 2 exit 1 1 200 6",
                "70 2 close 1",
            ]
        );
        assert_eq!(calls.open, 0);
    }
}
