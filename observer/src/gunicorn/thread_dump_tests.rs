use super::*;

fn written(threads: Vec<Thread>, tasks: Vec<Task>) -> String {
    let dump = ThreadDump {
        pid: 10,
        python_version: "3.11.7".into(),
        threads,
        tasks,
        tasks_cut: false,
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

fn task(name: &str, frames: Vec<Frame>) -> Task {
    Task {
        name: Some(name.into()),
        state: "suspended",
        changing: false,
        cut: false,
        request: None,
        awaits: None,
        awaits_tasks: Vec::new(),
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
        written(vec![main, serving, moving], Vec::new()),
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
fn tasks_that_serve_requests_are_shown_with_all_frames_and_others_in_a_line() {
    let frames = || {
        vec![
            frame("inner", Some(3)),
            frame("middle", None),
            frame("outer", Some(5)),
        ]
    };
    let serving = Task {
        request: Some(Request {
            method: Some("GET".into()),
            path: Some("/slow".into()),
        }),
        awaits_tasks: vec!["Task-3".into(), "Task-4".into()],
        cut: true,
        ..task("Task-2", frames())
    };
    let waiting = Task {
        awaits_tasks: vec!["Task-2".into()],
        ..task("Task-5", frames())
    };
    let created = Task {
        state: "created",
        ..task("Task-6", vec![frame("f", Some(1))])
    };
    let running = Task {
        name: None,
        state: "running",
        ..task("", Vec::new())
    };
    let changing = Task {
        changing: true,
        ..task("Task-8", Vec::new())
    };
    assert_eq!(
        written(
            Vec::new(),
            vec![serving, waiting, created, running, changing]
        ),
        "\
Process 10, CPython 3.11.7

Task Task-2, serves GET /slow
    more frames that these await
    awaits Task-3, Task-4
    inner (inner:3)
    middle (middle)
    outer (outer:5)

Other tasks
    Task-5, awaits Task-2: inner (inner:3), awaited by outer (outer:5)
    Task-6, not begun: f (f:1)
    ?, running
    Task-8, changing: no frame is shown
"
    );
}

#[test]
fn text_of_a_process_cannot_drive_the_terminal() {
    let hostile = format!("a'b\x1b]0;owned\x07\u{9b}2J\n{}", "x".repeat(5000));
    let request = || Request {
        method: Some(hostile.as_str().into()),
        path: Some(hostile.as_str().into()),
    };
    let thread = Thread {
        request: Some(request()),
        ..thread(vec![frame(&hostile, Some(1))])
    };
    let serving = Task {
        request: Some(request()),
        ..task(&hostile, vec![frame(&hostile, Some(1))])
    };
    let other = Task {
        awaits_tasks: vec![hostile.as_str().into()],
        ..task(&hostile, vec![frame(&hostile, Some(1))])
    };
    let text = written(vec![thread], vec![serving, other]);
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    assert_eq!(text.matches("a'b\\u{1b}]0;owned").count(), 13, "{text}");
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
