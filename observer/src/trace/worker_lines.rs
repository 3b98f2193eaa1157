//! The end of a worker as lines for people.

use super::text::time;
use crate::untrusted::shown;
use observer_model::lifecycle::exit_reason::ExitKind;
use observer_model::lifecycle::worker_event::{Ended, PendingView, StackView, WorkerEvent};

/// Characters of a name that are shown.
const NAME_CHARS: usize = 120;
/// Frames of a stack that are shown.
const FRAMES: usize = 40;

/// With the time before it.
#[must_use]
pub fn timed(event: &WorkerEvent) -> String {
    format!("{}  {}", time(event.time_seconds), lines(event).join("\n"))
}

/// What happened, and the stacks if there are any, each line by itself.
#[must_use]
pub fn lines(event: &WorkerEvent) -> Vec<String> {
    let app = shown(&event.app, NAME_CHARS);
    let class = shown(&event.worker_class, NAME_CHARS);
    let who = format!("worker {} ", event.worker_pid);
    let Some(ended) = &event.ended else {
        return vec![format!("{who}started ({app}, {class})")];
    };
    let how = match ended.restart_type {
        ExitKind::Graceful => "",
        ExitKind::Forced => ", by force",
    };
    let mut first = format!("{who}ended: {}{how} ({app}, {class}", ended.reason.as_str());
    if let Some(uptime) = ended.uptime_seconds {
        first += &format!(", after {uptime:.1} s");
    }
    first += &format!(" and {} requests)", ended.served);
    for part in [status(ended), signals(ended), requests(&ended.requests)] {
        first += &part;
    }
    if let Some(place) = &ended.stuck_in {
        first += &format!("; stuck in {}", shown(place, NAME_CHARS));
    }
    let mut lines = vec![first];
    for view in &ended.stacks {
        stack(view, &mut lines);
    }
    lines
}

fn status(ended: &Ended) -> String {
    match (ended.exit_code, ended.exit_signal) {
        (Some(code), _) => format!("; exit code {code}"),
        (_, Some(signal)) => {
            let name = observer_model::lifecycle::signal::name(signal);
            format!("; killed by signal {signal} ({name})")
        }
        _ => String::new(),
    }
}

fn signals(ended: &Ended) -> String {
    let sent = |view: &observer_model::lifecycle::worker_event::SignalView| match view.sender_pid {
        Some(pid) => format!("{} from {pid}", view.signal),
        None => format!("{} from the kernel", view.signal),
    };
    let sent: Vec<String> = ended.signals.iter().map(sent).collect();
    if sent.is_empty() {
        return String::new();
    }
    format!("; it got {}", sent.join(", "))
}

fn requests(pending: &[PendingView]) -> String {
    let shown: Vec<String> = pending.iter().map(request).collect();
    if shown.is_empty() {
        return String::new();
    }
    format!("; in {}", shown.join(", "))
}

fn request(pending: &PendingView) -> String {
    let method = shown(pending.method.as_deref().unwrap_or("?"), NAME_CHARS);
    let route = match pending.route.as_str() {
        "" => "?".to_owned(),
        route => shown(route, NAME_CHARS),
    };
    format!("{method} {route} for {:.1} s", pending.age_seconds)
}

fn stack(view: &StackView, lines: &mut Vec<String>) {
    let thread = if view.is_current {
        "the thread that got SIGABRT"
    } else {
        "another thread"
    };
    let what = view
        .request
        .as_ref()
        .map_or_else(String::new, |of| format!(", {}", request(of)));
    lines.push(format!("    {thread}{what}:"));
    for place in view.frames.iter().take(FRAMES) {
        let line = place
            .line
            .map_or_else(String::new, |line| format!(":{line}"));
        let file = shown(&place.frame.file, NAME_CHARS);
        let function = shown(&place.frame.function, NAME_CHARS);
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
    use observer_model::lifecycle::exit_reason::ExitReason;
    use observer_model::lifecycle::worker_event::SignalView;

    #[test]
    fn an_end_says_who_why_and_where() {
        let frame = |function: &str, line| CodeLocation {
            frame: Frame {
                file: "shop.py".to_owned(),
                function: function.to_owned(),
                ..Frame::default()
            },
            line,
        };
        let request = PendingView {
            method: Some("GET".to_owned()),
            route: "/slow\x1b[2J".to_owned(),
            path: None,
            age_seconds: 2.25,
        };
        let ended = Ended {
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
            stuck_in: Some("shop.py:nap".to_owned()),
            stacks: vec![StackView {
                is_current: true,
                request: Some(request),
                frames: vec![frame("nap", Some(7)), frame("app", None)],
                is_cut: true,
            }],
        };
        let event = WorkerEvent {
            time_seconds: 3_661.5,
            app: "shop".to_owned(),
            worker_pid: 42,
            worker_class: "SyncWorker".into(),
            ended: Some(ended),
            ..WorkerEvent::default()
        };
        let expected = "01:01:01.500Z  worker 42 ended: timeout, by force (shop, SyncWorker, after 12.0 s and 3 requests); \
            killed by signal 9 (KILL); it got ABRT from 1, KILL from the kernel; \
            in GET /slow\\u{1b}[2J for 2.2 s; stuck in shop.py:nap
    the thread that got SIGABRT, GET /slow\\u{1b}[2J for 2.2 s:
      shop.py:7 nap
      shop.py app
      ...";
        assert_eq!(timed(&event), expected);
    }
}
