//! Server-sent events, read line by line
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::io::{self, BufRead, Read as _};

/// An event that is longer is refused: no view comes near.
const MAX_EVENT_BYTES: u64 = 64 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
    /// Empty when it has none.
    pub id: String,
}

/// The next event that has data; `None` when the stream ended. What is not whole by then is none.
///
/// # Errors
/// When the stream cannot be read, or holds what is no event.
pub fn next(stream: &mut impl BufRead) -> io::Result<Option<Event>> {
    let mut event = Event::default();
    let mut stream = stream.take(MAX_EVENT_BYTES);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return match stream.limit() {
                0 => Err(io::Error::other("an event is too long")),
                _ => Ok(None),
            };
        }
        let text = line.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            if !event.data.is_empty() {
                return Ok(Some(event));
            }
            event = Event::default();
            continue;
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event.name),
            "id" => value.clone_into(&mut event.id),
            "data" => {
                if !event.data.is_empty() {
                    event.data.push('\n');
                }
                event.data.push_str(value);
            }
            // `retry` is for browsers; a comment keeps a connection open.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut text: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = next(&mut text).unwrap() {
            events.push(event);
        }
        events
    }

    #[test]
    fn events_are_read_with_their_names_and_numbers() {
        let text =
            b"retry: 500\n\n: hello\nevent: history\ndata: {}\n\nevent:snapshot\r\nid: 7.5\r\n\
            data: [1,\r\ndata: 2]\r\n\r\nevent: cut\ndata: x\n";
        let event = |name: &str, data: &str, id: &str| Event {
            name: name.to_owned(),
            data: data.to_owned(),
            id: id.to_owned(),
        };
        let expected = [
            event("history", "{}", ""),
            event("snapshot", "[1,\n2]", "7.5"),
        ];
        assert_eq!(all(text), expected);
        assert_eq!(all(b""), []);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(next(&mut &b"data: \xff\n\n"[..]).is_err());
    }
}
