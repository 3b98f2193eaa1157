//! Why a request failed: which of the exceptions that were seen while it was served.
//!
//! - One that left the application is it.
//! - Else it is the last that someone asked for, unless that came up while an earlier
//!   one was handled and was caught further in: then the earlier one.
//! - Else, after a closer look, it is chosen of all that went up out of a frame:
//!   see [`of_rises`].

use crate::event::{CapturedFrame, Class, Exception, Frame};
use serde::Serialize;

/// What is known of why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No exception was seen, though there may have been one.
    Unknown,
    /// There was no exception.
    None,
    /// This exception.
    Raised(Box<Failure>),
}

/// An exception that failed a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    #[serde(flatten)]
    pub raised: Raised,
    /// The first of the exceptions that led to it.
    pub root_cause: Option<Raised>,
    /// The innermost call in the application's own files, where that is not the place.
    pub called_from: Option<String>,
    /// The innermost frames, the innermost first.
    pub traceback: Vec<Frame>,
}

/// An exception, and where it was raised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Raised {
    pub error: Class,
    /// `file:function`; empty when unknown.
    pub raised_in: String,
}

/// What the exceptions of a request say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnalysis {
    pub cause: Cause,
    /// The exception left the application.
    pub has_left: bool,
    /// The client had gone.
    pub client_gone: bool,
    /// What Gunicorn's `handle_error` was called with.
    pub gunicorns: Option<Class>,
    /// Whether a closer look alone would have said the same, where both were there.
    pub closer_look_agrees: Option<bool>,
}

/// `file:function` of a frame.
pub fn place(frame: &Frame) -> String {
    if frame.file.is_empty() && frame.function.is_empty() {
        String::new()
    } else {
        format!("{}:{}", frame.file, frame.function)
    }
}

/// Decides; `was_watched` says that no exception can have been missed.
#[must_use]
pub fn analyse(handled: &[Exception], rises: &[UnwindTrace], was_watched: bool) -> ErrorAnalysis {
    let gone = |exception: &Exception| is_client_gone(&exception.class, &exception.frames);
    let rise_gone = |rise: &UnwindTrace| is_client_gone(&rise.class, &rise.frames);
    let client_gone = handled.iter().any(gone) || rises.iter().any(rise_gone);
    let of_app = || handled.iter().filter(|exception| !gone(exception));
    let gunicorns = handled.iter().rfind(|exception| exception.was_gunicorns);
    let left = of_app().rfind(|exception| exception.has_left);
    let told = left.or_else(|| of_asked(of_app())).map(Failure::of);
    // Of a part of what went up nothing follows.
    let risen = of_rises(rises).filter(|_| was_watched);
    let closer_look_agrees = told.as_ref().filter(|_| was_watched).map(|told| {
        let raised = risen.map(|rise| rise.failure().raised);
        raised.as_ref() == Some(&told.raised)
    });
    let cause = match told {
        Some(failure) => Cause::Raised(Box::new(failure)),
        None => match risen {
            Some(rise) => Cause::Raised(Box::new(rise.failure())),
            None if was_watched && !client_gone => Cause::None,
            None => Cause::Unknown,
        },
    };
    ErrorAnalysis {
        cause,
        has_left: left.is_some(),
        client_gone,
        gunicorns: gunicorns.map(|exception| exception.class.clone()),
        closer_look_agrees,
    }
}

impl Failure {
    fn of(exception: &Exception) -> Self {
        let raised_in = exception.frames.first().map(place).unwrap_or_default();
        let own = exception.frames.iter().find(|frame| frame.is_own);
        Self {
            called_from: own.map(place).filter(|own| *own != raised_in),
            raised: Raised {
                error: exception.class.clone(),
                raised_in,
            },
            root_cause: exception.root_class.as_ref().map(|class| Raised {
                error: class.clone(),
                raised_in: exception.root_frame.as_ref().map(place).unwrap_or_default(),
            }),
            traceback: exception.frames.clone(),
        }
    }
}

/// The last that was asked for, if the earlier ones do not explain it.
fn of_asked<'a>(handled: impl Iterator<Item = &'a Exception>) -> Option<&'a Exception> {
    handled.reduce(|best, next| {
        let comes_from_best = |link: Option<u64>| {
            link.is_some_and(|link| link == best.object || Some(link) == best.root)
        };
        let is_inner = match (next.depth, best.depth) {
            (Some(next), Some(best)) => next > best,
            _ => false,
        };
        let is_aside = next.object != best.object
            && is_inner
            && (comes_from_best(next.came_from) || comes_from_best(next.root));
        if is_aside { best } else { next }
    })
}

/// Whether an exception only says that the client went away: Gunicorn met it when it
/// read or wrote the connection, by whatever socket it has.
fn is_client_gone(class: &Class, frames: &[Frame]) -> bool {
    const GONE: [&str; 8] = [
        "BrokenPipeError",
        "ConnectionResetError",
        "ConnectionAbortedError",
        "TimeoutError",
        "timeout",
        "SSLEOFError",
        "SSLZeroReturnError",
        "OSError",
    ];
    const SOCKETS: [&str; 4] = ["gevent", "eventlet", "ssl", "socket"];
    let is_socket = |frame: &&Frame| {
        let top = frame.module.split('.').next().unwrap_or_default();
        SOCKETS.contains(&top)
    };
    let caller = frames.iter().find(|frame| !is_socket(frame));
    GONE.contains(&class.name.as_str())
        && caller.is_some_and(|frame| frame.module.starts_with("gunicorn."))
}

/// An exception on its way up, from frame to frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnwindTrace {
    object: u64,
    is_made: bool,
    class_object: u64,
    class: Class,
    /// Where it was raised, and then each frame it went up to, also when it was raised again.
    frames: Vec<Frame>,
    depth: u32,
    is_any_own: bool,
    is_last_own: bool,
    /// The first installed package it went through, and whether there was another.
    package: Option<String>,
    is_across_packages: bool,
}

/// Rises kept of one request, and frames of one rise.
const MAX_RISES: usize = 256;
const MAX_FRAMES: usize = 16;

impl UnwindTrace {
    /// Takes one step of one of the exceptions of a request.
    pub fn step(rises: &mut Vec<Self>, captured_frame: &CapturedFrame) {
        if captured_frame.has_traceback
            && let Some(rise) = Self::find(rises, captured_frame)
        {
            rise.go_up(captured_frame);
            return;
        }
        if rises.len() >= MAX_RISES {
            let aside = rises.iter().position(|rise| !rise.is_any_own);
            rises.remove(aside.unwrap_or(0));
        }
        let mut rise = Self {
            object: captured_frame.object,
            is_made: captured_frame.is_made,
            class_object: captured_frame.class_object,
            class: captured_frame.class.clone(),
            frames: Vec::new(),
            depth: captured_frame.depth,
            is_any_own: false,
            is_last_own: false,
            package: None,
            is_across_packages: false,
        };
        rise.go_up(captured_frame);
        rises.push(rise);
    }

    /// The one whose next step this is: the last of the same exception, or else the last that was
    /// not made when it was seen.
    fn find<'a>(rises: &'a mut [Self], captured_frame: &CapturedFrame) -> Option<&'a mut Self> {
        let is_class = |rise: &Self| rise.class_object == captured_frame.class_object;
        let same = rises
            .iter()
            .rposition(|rise| is_class(rise) && rise.object == captured_frame.object);
        let unmade = || {
            rises
                .iter()
                .rposition(|rise| is_class(rise) && !rise.is_made)
        };
        let at = same.or_else(unmade)?;
        rises.get_mut(at)
    }

    fn go_up(&mut self, captured_frame: &CapturedFrame) {
        self.object = captured_frame.object;
        self.is_made = captured_frame.is_made;
        self.depth = captured_frame.depth;
        self.is_any_own |= captured_frame.frame.is_own;
        self.is_last_own = captured_frame.frame.is_own;
        if captured_frame.frame.is_installed {
            let top = captured_frame
                .frame
                .module
                .split('.')
                .next()
                .unwrap_or_default();
            let first = self.package.get_or_insert_with(|| top.to_owned());
            self.is_across_packages |= first != top;
        }
        if self.frames.len() < MAX_FRAMES {
            self.frames.push(captured_frame.frame.clone());
        }
    }

    /// It was raised in the application's own files, or went through them, and was caught
    /// outside of them.
    fn has_left_own(&self) -> bool {
        self.is_any_own && !self.is_last_own
    }

    /// It went from one installed package to another, such as from an application that is
    /// installed to its framework, and was more than an answer.
    fn has_left_package(&self) -> bool {
        self.is_across_packages && !ANSWERS.contains(&self.class.name.as_str())
    }

    fn failure(&self) -> Failure {
        let raised_in = self.frames.first().map(place).unwrap_or_default();
        let own = self.frames.iter().find(|frame| frame.is_own);
        Failure {
            called_from: own.map(place).filter(|own| *own != raised_in),
            raised: Raised {
                error: self.class.clone(),
                raised_in,
            },
            root_cause: None,
            traceback: self.frames.clone(),
        }
    }
}

/// How libraries say no to each other: `KeyError` of `os.environ.get`, `AttributeError` of
/// `hasattr`.
const ANSWERS: [&str; 7] = [
    "AttributeError",
    "ImportError",
    "IndexError",
    "KeyError",
    "ModuleNotFoundError",
    "StopAsyncIteration",
    "StopIteration",
];
/// Which of all exceptions of a request failed it: of those that left the application's own
/// files for the framework's, the last that went furthest out. Without one, the last that
/// was caught in the application's own files. Without one, likewise of those that went from one
/// installed package to another: what stays within one, as in Django's own templates when it
/// mails of a 5xx, is its own affair.
fn of_rises(rises: &[UnwindTrace]) -> Option<&UnwindTrace> {
    // Of equals, the first is the least: so they are gone through backwards.
    let rises = || {
        let is_of_app = |rise: &&UnwindTrace| !is_client_gone(&rise.class, &rise.frames);
        rises.iter().rev().filter(is_of_app)
    };
    let furthest = |is_meant: fn(&&UnwindTrace) -> bool| {
        let meant = rises().filter(is_meant);
        meant.min_by_key(|rise| rise.depth)
    };
    let own = || rises().find(|rise| rise.is_any_own);
    furthest(|rise| rise.has_left_own())
        .or_else(own)
        .or_else(|| furthest(|rise| rise.has_left_package()))
}

#[cfg(test)]
#[path = "cause_tests.rs"]
mod tests;
