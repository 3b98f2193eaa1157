use super::*;
use std::io::{BufRead as _, BufReader, Read as _, pipe};
use std::os::fd::OwnedFd;

fn request(number: u64) -> Line {
    Line::Request(Box::new(FinishedRequest {
        duration_ns: Some(number),
        ..FinishedRequest::default()
    }))
}

fn start_piped(filter: Filter) -> (Outlet, Writer, io::PipeReader, Receiver<()>) {
    let (reader, writer) = pipe().unwrap();
    let (guard, ended) = channel();
    let out = File::from(OwnedFd::from(writer));
    let (outlet, writer) = start(filter, Format::Json, out, guard).unwrap();
    (outlet, writer, reader, ended)
}

fn numbers(reader: impl io::Read) -> Vec<u64> {
    let lines = BufReader::new(reader).lines().map(Result::unwrap);
    let number = |line: String| {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["duration_ns"].as_u64().unwrap()
    };
    lines.map(number).collect()
}

#[test]
fn json_tells_what_is_known_of_the_cause() {
    use observer_model::errors::cause::{Cause, Failure, Raised};
    use observer_model::event::Class;
    let raised = |name: &str, place: &str| Raised {
        error: Class {
            module: "m".to_owned(),
            name: name.to_owned(),
        },
        raised_in: place.to_owned(),
    };
    let failure = Failure {
        raised: raised("ValueError", "a.py:f"),
        root_cause: Some(raised("KeyError", "b.py:g")),
        called_from: None,
        traceback: Vec::new(),
    };
    let exception = "{\"error\":{\"module\":\"m\",\"name\":\"ValueError\"},\"raised_in\":\"a.py:f\",\
         \"root_cause\":{\"error\":{\"module\":\"m\",\"name\":\"KeyError\"},\"raised_in\":\"b.py:g\"},\
         \"called_from\":null,\"traceback\":[]}";
    for (cause, is, what) in [
        (None, "null", "null"),
        (Some(Cause::Unknown), "\"unknown\"", "null"),
        (Some(Cause::None), "\"none\"", "null"),
        (
            Some(Cause::Raised(Box::new(failure))),
            "\"raised\"",
            exception,
        ),
    ] {
        let finished = FinishedRequest {
            cause,
            ..FinishedRequest::default()
        };
        let line = Line::Request(Box::new(finished));
        let line = Format::Json.line(&line).unwrap();
        let end = format!("\"failed\":false,\"cause_is\":{is},\"cause\":{what}}}\n");
        assert!(line.ends_with(&end), "{line}");
    }
}

/// What a program may rely on: docs/TRACE.md has each field.
#[test]
fn every_field_is_documented() {
    let docs = include_str!("../../../docs/TRACE.md");
    let line = Format::Json.line(&request(1)).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    for field in line.as_object().unwrap().keys() {
        assert!(docs.contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn what_is_taken_is_written_in_its_order() {
    let filter = Filter {
        min_duration: Some(Duration::from_nanos(2)),
        ..Filter::default()
    };
    let (mut outlet, writer, reader, _ended) = start_piped(filter);
    for number in 0..10 {
        outlet.take(request(number));
    }
    drop(outlet);
    writer.end().unwrap();
    assert_eq!(numbers(reader), Vec::from_iter(2..10));
}

#[test]
fn a_reader_that_does_not_read_is_not_waited_for_and_what_it_missed_is_counted() {
    let (mut outlet, writer, mut reader, _ended) = start_piped(Filter::default());
    let count = 3 * MAX_WAITING as u64;
    for number in 0..count {
        outlet.take(request(number));
    }
    drop(outlet);
    let counts = Arc::clone(&writer.counts);
    writer.end().unwrap();
    assert_eq!(counts.wanted.load(Ordering::Relaxed), count);
    // Whole lines, as many as were counted, are in the pipe before anyone reads.
    let written = counts.written.load(Ordering::Relaxed);
    assert!(0 < written && written < count, "{written}");
    let mut first = vec![0; 32 * 1024];
    reader.read_exact(&mut first).unwrap();
    assert!(first.starts_with(b"{\"time_seconds\":0.0,"));
    // Then the writer, which nobody stopped, goes on with what waits.
    let rest = numbers(io::Cursor::new(first).chain(reader));
    assert!(rest.len() as u64 >= written && rest.is_sorted());
}

#[test]
fn when_nobody_reads_any_more_that_is_noticed_without_a_line_and_is_no_failure() {
    let (_outlet, writer, reader, ended) = start_piped(Filter::default());
    drop(reader);
    // The guard was dropped.
    assert!(ended.recv().is_err());
    writer.end().unwrap();
}

#[test]
fn a_full_disk_is_a_failure() {
    let out = File::options().write(true).open("/dev/full").unwrap();
    let format = Format::Text {
        paths: false,
        colors: true,
    };
    let (mut outlet, writer) = start(Filter::default(), format, out, ()).unwrap();
    outlet.take(request(1));
    drop(outlet);
    let error = format!("{:#}", writer.end().unwrap_err());
    assert!(error.contains("is the disk full?"), "{error}");
}
