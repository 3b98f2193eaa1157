use super::*;

fn written(threads: Vec<Thread>) -> String {
    let dump = ThreadDump {
        pid: 10,
        python_version: "3.11.7".into(),
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
        function: Some(text.into()),
        file: Some(text.into()),
        line,
    }
}

#[test]
fn each_thread_is_shown_with_its_request_and_its_frames() {
    let text = |text: &str| Some(text.into());
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

Thread 11, changing: only the frames that stayed are shown
    f (f:1)
    more frames that called these
"
    );
}

#[test]
fn text_of_a_process_cannot_drive_the_terminal() {
    let hostile = format!("a'b\x1b]0;owned\x07\u{9b}2J\n{}", "x".repeat(5000));
    let text = written(vec![Thread {
        request: Some(Request {
            method: Some(hostile.as_str().into()),
            path: Some(hostile.as_str().into()),
        }),
        ..thread(vec![frame(&hostile, Some(1))])
    }]);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    assert_eq!(text.matches("a'b\\u{1b}]0;owned").count(), 4, "{text}");
    assert!(text.lines().all(|line| line.chars().count() < 2000));
}

#[test]
fn each_error_has_its_cause_and_its_fix() {
    let explained = |error, has_ptrace| format!("{:#}", explained(42, error, has_ptrace));
    let gone = explained(InspectError::Gone, true);
    assert!(
        gone.starts_with("there is no process 42; `gunicorn-observer"),
        "{gone}"
    );
    let other = explained(InspectError::NotPython, true);
    assert!(
        other.starts_with("process 42 does not run Python; "),
        "{other}"
    );
    let unsupported = InspectError::unsupported("3.7", "CPython 3.7: \x1b[2J");
    assert_eq!(
        explained(unsupported, true),
        "process 42 cannot be read: CPython 3.7: \\u{1b}[2J; use an ordinary CPython 3.8 to 3.15 \
         for glibc"
    );
}

#[test]
fn root_is_advised_only_without_the_privilege() {
    let io = |errno, has_ptrace| {
        let source = io::Error::from_raw_os_error(errno);
        let error = InspectError::io("reading", source);
        format!("{:#}", explained(1, error, has_ptrace))
    };
    let (eperm, eio) = (1, 5);
    assert!(io(eperm, false).ends_with("run this as root (sudo) on the host"));
    let protected = io(eperm, true);
    assert!(
        protected.contains("security module") && !protected.contains("sudo"),
        "{protected}"
    );
    let other = io(eio, false);
    assert!(other.ends_with("(os error 5)"), "{other}");
}

#[test]
fn this_process_is_not_python() {
    let error = inspect(std::process::id(), &mut Files::default()).unwrap_err();
    assert!(matches!(error, InspectError::NotPython), "{error:?}");
    let error = inspect(u32::MAX, &mut Files::default()).unwrap_err();
    assert!(matches!(error, InspectError::Gone), "{error:?}");
}
