//! Starts and exits of workers, and exits of masters, as lines for people: an event, then fields.

use super::text::time;
use observer_model::Untrusted;
use observer_model::errors::cause::{Failure, Raised};
use observer_model::lifecycle::signal;
use observer_model::lifecycle::worker_event::{
    DIRTY_ENDED, PendingView, SignalView, StackView, WorkerEvent, WorkerExit,
};

/// Most characters of a name.
const NAME_CHARS: usize = 120;
/// Most frames of a stack.
const FRAMES: usize = 40;

/// The lines, with the time before the first.
#[must_use]
pub fn timed(event: &WorkerEvent) -> String {
    format!("{}  {}", time(event.time_seconds), lines(event).join("\n"))
}

/// One line for the event, then the lines of the stacks if there are any.
#[must_use]
pub fn lines(event: &WorkerEvent) -> Vec<String> {
    let (process, pid) = event.process();
    let is_dirty = event.event == DIRTY_ENDED;
    let process = if is_dirty { "dirty process" } else { process };
    let who = format!(
        "pid={pid} app={} class={}",
        name(&event.app),
        name(&event.worker_class)
    );
    let Some(exit) = &event.exit else {
        return vec![format!("{process} started {who}")];
    };
    let reason = exit.reason.as_str();
    let mut first = format!("{process} exited reason={reason} {who}");
    for field in fields(exit, !is_dirty) {
        first.push(' ');
        first.push_str(&field);
    }
    let mut lines = vec![first];
    for view in &exit.stacks {
        stack(view, &mut lines);
    }
    lines
}

fn name(text: &Untrusted) -> String {
    text.for_terminal(NAME_CHARS)
}

/// The fields of an exit; of a process that `serves` requests also how many.
fn fields(exit: &WorkerExit, serves: bool) -> impl Iterator<Item = String> {
    let uptime = exit.uptime_seconds.map(|it| format!("uptime={it:.1}s"));
    let status = match (exit.exit_code, exit.exit_signal) {
        (Some(code), _) => Some(format!("exit_code={code}")),
        (None, Some(number)) => Some(format!("signal={}", signal::name(number))),
        (None, None) => None,
    };
    let signals: Vec<_> = exit.signals.iter().map(sent).collect();
    let signals = (!signals.is_empty()).then(|| format!("sent=\"{}\"", signals.join(", ")));
    let requests: Vec<_> = exit.requests.iter().map(request).collect();
    let requests = (!requests.is_empty()).then(|| format!("in=\"{}\"", requests.join(", ")));
    let stuck_in = exit.stuck_in.as_ref();
    let fields = [
        Some(format!("restart_type={}", exit.restart_type.as_str())),
        uptime,
        serves.then(|| format!("served={}", exit.served)),
        status,
        signals,
        requests,
        stuck_in.map(|place| format!("stuck_in={}", name(place))),
        exit.failure.as_ref().map(failure),
    ];
    fields.into_iter().flatten()
}

/// The exception because of which a worker did not boot.
fn failure(failure: &Failure) -> String {
    let Raised { error, raised_in } = &failure.raised;
    let error = format!("error={} raised_in={}", name(&error.name), name(raised_in));
    match &failure.called_from {
        Some(place) => format!("{error} called_from={}", name(place)),
        None => error,
    }
}

fn sent(view: &SignalView) -> String {
    match view.sender_pid {
        Some(pid) => format!("{} by {pid}", view.signal),
        None => format!("{} by the kernel", view.signal),
    }
}

fn request(pending: &PendingView) -> String {
    let known = |text: Option<&Untrusted>| match text {
        Some(text) if !text.is_empty() => name(text),
        _ => "?".to_owned(),
    };
    let (method, route) = (known(pending.method.as_ref()), known(Some(&pending.route)));
    format!("{method} {route} for {:.1} s", pending.age_seconds)
}

fn stack(view: &StackView, lines: &mut Vec<String>) {
    let thread = if view.is_current {
        "thread that got SIGABRT"
    } else {
        "another thread"
    };
    let serves = view
        .request
        .as_ref()
        .map_or_else(String::new, |of| format!(", {}", request(of)));
    lines.push(format!("    {thread}{serves}:"));
    for location in view.frames.iter().take(FRAMES) {
        let line = location
            .line
            .map_or_else(String::new, |line| format!(":{line}"));
        let (file, function) = (name(&location.frame.file), name(&location.frame.function));
        lines.push(format!("      {file}{line} {function}"));
    }
    if view.is_cut || view.frames.len() > FRAMES {
        lines.push("      ...".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use observer_model::event::{CodeLocation, Frame};
    use observer_model::lifecycle::exit_reason::{ExitKind, ExitReason};
    use observer_model::lifecycle::worker_event::{MASTER_ENDED, WORKER_ENDED};

    #[test]
    fn an_exit_has_its_reason_and_its_stacks() {
        let frame = |function: &'static str, line| CodeLocation {
            frame: Frame {
                file: "shop.py".into(),
                function: function.into(),
                ..Frame::default()
            },
            line,
        };
        let request = PendingView {
            method: Some("GET".into()),
            route: "/slow\x1b[2J".into(),
            path: None,
            age_seconds: 2.25,
        };
        let exit = WorkerExit {
            reason: ExitReason::Timeout,
            restart_type: ExitKind::Forced,
            exit_code: None,
            exit_signal: Some(9),
            signals: vec![
                SignalView {
                    signal: "ABRT".into(),
                    sender_pid: Some(1),
                },
                SignalView {
                    signal: "KILL".into(),
                    sender_pid: None,
                },
            ],
            uptime_seconds: Some(12.0),
            served: 3,
            requests: vec![request.clone()],
            stuck_in: Some("shop.py:nap".into()),
            stacks: vec![StackView {
                is_current: true,
                request: Some(request),
                frames: vec![frame("nap", Some(7)), frame("app", None)],
                is_cut: true,
            }],
            failure: None,
        };
        let event = WorkerEvent {
            time_seconds: 3_661.5,
            app: "shop".into(),
            worker_pid: Some(42),
            worker_class: "SyncWorker".into(),
            exit: Some(exit),
            ..WorkerEvent::default()
        };
        let expected =
            "01:01:01.500Z  worker exited reason=timeout pid=42 app=shop class=SyncWorker \
            restart_type=forced uptime=12.0s served=3 signal=KILL \
            sent=\"ABRT by 1, KILL by the kernel\" \
            in=\"GET /slow\\u{1b}[2J for 2.2 s\" stuck_in=shop.py:nap
    thread that got SIGABRT, GET /slow\\u{1b}[2J for 2.2 s:
      shop.py:7 nap
      shop.py app
      ...";
        assert_eq!(timed(&event), expected);
    }

    #[test]
    fn a_line_names_the_process_that_exited() {
        let line = |event: &'static str, worker_pid| {
            let event = WorkerEvent {
                event: event.into(),
                master_pid: 10,
                worker_pid,
                ..WorkerEvent::default()
            };
            lines(&event).remove(0)
        };
        for (event, pid, expected) in [
            (WORKER_ENDED, Some(11), "worker started pid=11 "),
            (MASTER_ENDED, None, "master started pid=10 "),
            (DIRTY_ENDED, Some(12), "dirty process started pid=12 "),
        ] {
            let line = line(event, pid);
            assert!(line.starts_with(expected), "{line}");
        }
    }
}
