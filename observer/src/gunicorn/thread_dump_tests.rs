use super::*;

fn written(threads: Vec<Thread>) -> String {
    let dump = ThreadDump {
        pid: 10,
        python_version: "3.11.7".to_owned(),
        threads,
    };
    let mut out = Vec::new();
    write_text(&dump, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn thread(frames: Vec<Frame>) -> Thread {
    Thread {
        tid: Some(11),
        main: false,
        changing: false,
        cut: false,
        request: None,
        frames,
    }
}

fn frame(text: &str, line: Option<u32>) -> Frame {
    Frame {
        function: Some(text.to_owned()),
        file: Some(text.to_owned()),
        line,
    }
}

#[test]
fn each_thread_is_told_with_what_it_serves_and_its_frames() {
    let text = |text: &str| Some(text.to_owned());
    let unread = Frame {
        function: None,
        file: None,
        line: None,
    };
    let serving = Thread {
        request: Some(Request {
            method: text("GET"),
            path: text("/slow"),
        }),
        ..thread(vec![frame("inner", Some(3)), frame("outer", None), unread])
    };
    let main = Thread {
        tid: None,
        main: true,
        ..thread(Vec::new())
    };
    let moving = Thread {
        changing: true,
        cut: true,
        ..thread(vec![frame("f", Some(1))])
    };
    assert_eq!(
        written(vec![main, serving, moving]),
        "\
Process 10, CPython 3.11.7

Thread ?, main
    no Python code

Thread 11, serves GET /slow
    inner (inner:3)
    outer (outer)
    ? (?)

Thread 11, changing: only the frames that held still are here
    f (f:1)
    and more frames that called these
"
    );
}

#[test]
fn what_a_process_says_of_itself_cannot_drive_the_terminal() {
    let hostile = format!("a'b\x1b]0;owned\x07\u{9b}2J\n{}", "x".repeat(5000));
    let text = written(vec![Thread {
        request: Some(Request {
            method: Some(hostile.clone()),
            path: Some(hostile.clone()),
        }),
        ..thread(vec![frame(&hostile, Some(1))])
    }]);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    assert_eq!(text.matches("a'b\\u{1b}]0;owned").count(), 4, "{text}");
    assert!(text.lines().all(|line| line.chars().count() < 2000));
}

#[test]
fn each_error_names_its_cure() {
    let told = |error| format!("{:#}", explained(42, error));
    assert!(told(InspectError::Gone).starts_with("there is no process 42; `gunicorn-observer"));
    let other = told(InspectError::NotPython);
    assert!(other.starts_with("process 42 does not run Python; "));
    let unsupported = InspectError::unsupported("3.7", "CPython 3.7: \x1b[2J".to_owned());
    assert_eq!(
        told(unsupported),
        "process 42 cannot be read: CPython 3.7: \\u{1b}[2J; it takes an ordinary CPython 3.8 to \
             3.15 on glibc"
    );
    let denied = InspectError::io("reading".to_owned(), io::Error::from_raw_os_error(1));
    assert!(told(denied).ends_with("run this as root (sudo) on the host"));
}

#[test]
fn this_process_is_not_python() {
    let error = inspect(std::process::id(), &mut Files::default()).unwrap_err();
    assert!(matches!(error, InspectError::NotPython), "{error:?}");
    let error = inspect(u32::MAX, &mut Files::default()).unwrap_err();
    assert!(matches!(error, InspectError::Gone), "{error:?}");
}
