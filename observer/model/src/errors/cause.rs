//! The cause of a failed request: one of the exceptions that were seen while a worker served it.
//!
//! 1. The exception that left the application.
//! 2. Else the last exception that code handled; but if that one was raised while an earlier one was
//!    handled, and was caught further in, the earlier one.
//! 3. Else, after a deep capture, one of the exceptions that passed through frames: see
//!    `of_captures`.

use crate::errors::fatal_exit::FatalExit;
use crate::event::{CapturedFrame, Class, Exception, Frame};
use crate::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

/// The cause of a failed request, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No exception was seen, though there may have been one.
    Unknown,
    /// There was no exception.
    None,
    /// This exception.
    Raised(Box<Failure>),
    /// Its worker exited.
    WorkerExited(FatalExit),
}

/// An exception that failed a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(flatten)]
    pub raised: Raised,
    /// The first exception of the chain that led to it.
    pub root_cause: Option<Raised>,
    /// The innermost call in the application's own files, where that is not `raised_in`.
    pub called_from: Option<Untrusted>,
    /// The innermost frames, the innermost first.
    pub traceback: Vec<Frame>,
}

/// An exception, and where it was raised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    pub error: Class,
    /// `file:function`; empty when unknown.
    pub raised_in: Untrusted,
}

/// What the exceptions of a request show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnalysis {
    pub cause: Cause,
    /// The exception left the application.
    pub has_left: bool,
    /// The client disconnected.
    pub client_gone: bool,
    /// Class of the exception that Gunicorn called `handle_error` with.
    pub gunicorns: Option<Class>,
    /// Whether a deep capture alone gives the same cause, where both are known.
    pub deep_capture_agrees: Option<bool>,
}

impl ErrorAnalysis {
    /// Of a request of which no exception was seen. `is_complete` as for [`analyse`].
    #[must_use]
    pub fn without_exceptions(is_complete: bool) -> Self {
        Self {
            cause: if is_complete {
                Cause::None
            } else {
                Cause::Unknown
            },
            has_left: false,
            client_gone: false,
            gunicorns: None,
            deep_capture_agrees: None,
        }
    }
}

/// `file:function` of a frame.
pub fn place(frame: &Frame) -> Untrusted {
    if frame.file.is_empty() && frame.function.is_empty() {
        Untrusted::default()
    } else {
        format!("{}:{}", frame.file.raw(), frame.function.raw()).into()
    }
}

/// Finds the cause. `is_complete` says that a deep capture covered the whole request, so that no
/// exception is missing.
#[must_use]
pub fn analyse(
    handled: &[Exception],
    captures: &[CapturedException],
    is_complete: bool,
) -> ErrorAnalysis {
    let gone = |exception: &Exception| is_client_gone(&exception.class, &exception.frames);
    let captured_gone =
        |captured: &CapturedException| is_client_gone(&captured.class, &captured.frames);
    let client_gone = handled.iter().any(gone) || captures.iter().any(captured_gone);
    let is_of_app = |exception: &&Exception| !gone(exception) && !is_cancelled(&exception.class);
    let of_app = || handled.iter().filter(is_of_app);
    let gunicorns = handled.iter().rfind(|exception| exception.was_gunicorns);
    let left = of_app().rfind(|exception| exception.has_left);
    let handled_failure = left.or_else(|| of_handled(of_app())).map(Failure::of);
    // An incomplete capture proves nothing.
    let captured = of_captures(captures).filter(|_| is_complete);
    let complete = handled_failure.as_ref().filter(|_| is_complete);
    let deep_capture_agrees = complete.map(|failure| {
        let raised = captured.map(|captured| captured.failure().raised);
        raised.as_ref() == Some(&failure.raised)
    });
    let cause = match handled_failure {
        Some(failure) => Cause::Raised(Box::new(failure)),
        None => match captured {
            Some(captured) => Cause::Raised(Box::new(captured.failure())),
            None if is_complete && !client_gone => Cause::None,
            None => Cause::Unknown,
        },
    };
    ErrorAnalysis {
        cause,
        has_left: left.is_some(),
        client_gone,
        gunicorns: gunicorns.map(|exception| exception.class.clone()),
        deep_capture_agrees,
    }
}

impl Failure {
    /// An exception as the cause of a failure.
    #[must_use]
    pub fn of(exception: &Exception) -> Self {
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

/// The last exception that code handled, unless an earlier one explains it.
fn of_handled<'a>(handled: impl Iterator<Item = &'a Exception>) -> Option<&'a Exception> {
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

/// Whether an exception only ends a task: anyio reads its traceback after every streaming response of
/// Starlette (`anyio/_backends/_asyncio.py`).
fn is_cancelled(class: &Class) -> bool {
    let of_asyncio = class.module.raw().starts_with("asyncio.");
    of_asyncio && class.name.raw() == "CancelledError"
}

/// Whether an exception only means that the client disconnected: Gunicorn got it when it read or
/// wrote the connection.
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
        let top = frame.module.raw().split('.').next().unwrap_or_default();
        SOCKETS.contains(&top)
    };
    let caller = frames.iter().find(|frame| !is_socket(frame));
    GONE.contains(&class.name.raw())
        && caller.is_some_and(|frame| frame.module.raw().starts_with("gunicorn."))
}

/// An exception and the frames that it passed through, during a deep capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedException {
    object: u64,
    is_made: bool,
    class_object: u64,
    class: Class,
    /// The frame that raised it, then each frame that it passed through, also when raised again.
    frames: Vec<Frame>,
    depth: u32,
    /// A frame, or the last frame, is in the application's own files.
    is_any_own: bool,
    is_last_own: bool,
    /// The first installed package that it passed through.
    package: Option<String>,
    /// It passed through more than one installed package.
    is_across_packages: bool,
}

/// Exceptions kept of one request.
const MAX_CAPTURED: usize = 256;
/// Frames kept of one exception.
const MAX_FRAMES: usize = 16;

impl CapturedException {
    /// Adds a frame to one of the exceptions of a request.
    pub fn captured_frame(captures: &mut Vec<Self>, captured_frame: &CapturedFrame) {
        if captured_frame.has_traceback
            && let Some(captured) = Self::find(captures, captured_frame)
        {
            captured.add(captured_frame);
            return;
        }
        if captures.len() >= MAX_CAPTURED {
            let library = captures.iter().position(|captured| !captured.is_any_own);
            captures.remove(library.unwrap_or(0));
        }
        let mut captured = Self {
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
        captured.add(captured_frame);
        captures.push(captured);
    }

    /// The exception that this frame belongs to: the last one at the same address, else the last one
    /// whose object did not exist yet.
    fn find<'a>(captures: &'a mut [Self], captured_frame: &CapturedFrame) -> Option<&'a mut Self> {
        let is_class = |captured: &Self| captured.class_object == captured_frame.class_object;
        let same = captures
            .iter()
            .rposition(|captured| is_class(captured) && captured.object == captured_frame.object);
        let unmade = || {
            captures
                .iter()
                .rposition(|captured| is_class(captured) && !captured.is_made)
        };
        let at = same.or_else(unmade)?;
        captures.get_mut(at)
    }

    fn add(&mut self, captured_frame: &CapturedFrame) {
        self.object = captured_frame.object;
        self.is_made = captured_frame.is_made;
        self.depth = captured_frame.depth;
        self.is_any_own |= captured_frame.frame.is_own;
        self.is_last_own = captured_frame.frame.is_own;
        if captured_frame.frame.is_installed {
            let top = captured_frame
                .frame
                .module
                .raw()
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

    /// It passed through the application's own files and was caught outside of them.
    fn has_left_own(&self) -> bool {
        self.is_any_own && !self.is_last_own
    }

    /// It passed from one installed package to another, such as from an installed application to its
    /// framework, and is not one of [`ANSWERS`].
    fn has_left_package(&self) -> bool {
        self.is_across_packages && !ANSWERS.contains(&self.class.name.raw())
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

/// Exceptions by which libraries answer "no" to each other: `KeyError` of `os.environ.get`,
/// `AttributeError` of `hasattr`.
const ANSWERS: [&str; 7] = [
    "AttributeError",
    "ImportError",
    "IndexError",
    "KeyError",
    "ModuleNotFoundError",
    "StopAsyncIteration",
    "StopIteration",
];

/// The exception that failed a request, from a deep capture:
///
/// 1. Of the exceptions that left the application's own files, the last one that went furthest out.
/// 2. Else the last one that was caught in the application's own files.
/// 3. Else, of the exceptions that left one installed package for another, the last one that went
///    furthest out. An exception that stays within one package, as in Django's templates when it
///    mails about a 5xx, concerns that package only.
fn of_captures(captures: &[CapturedException]) -> Option<&CapturedException> {
    // Backwards, because `min_by_key` takes the first of equals.
    let captures = || {
        let is_of_app =
            |captured: &&CapturedException| !is_client_gone(&captured.class, &captured.frames);
        captures.iter().rev().filter(is_of_app)
    };
    let furthest = |is_candidate: fn(&&CapturedException) -> bool| {
        let candidates = captures().filter(is_candidate);
        candidates.min_by_key(|captured| captured.depth)
    };
    let own = || captures().find(|captured| captured.is_any_own);
    furthest(|captured| captured.has_left_own())
        .or_else(own)
        .or_else(|| furthest(|captured| captured.has_left_package()))
}

#[cfg(test)]
#[path = "cause_tests.rs"]
mod tests;
