//! What is asked of each shop, and what becomes of it: as data.

use super::framework::{
    Framework::{
        self, Bottle, Django, DjangoAsgi, Falcon, FastApi, Flask, Pyramid, Raw, Rest, Starlette,
    },
    Stand,
};

/// Where an exception was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the view itself.
    View,
    /// In a function of this file, by its qualified name.
    At(&'static str, &'static str),
    /// In a template: this file, and the `co_qualname` and `co_name` of its code.
    Template(&'static str, &'static str, &'static str),
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Answered with this status, and no error.
    Well(u16),
    /// Answered with this 5xx by the application, without any exception.
    Plain(u16),
    /// Answered with this 5xx, and the observer cannot know whether there was an exception.
    Unseen(u16),
    /// The application answers its exception itself.
    Answered(u16, &'static str, Origin),
    /// An exception leaves the view. Bare WSGI and Pyramid let it out; the others answer 500.
    Uncaught(&'static str, Origin),
    /// The framework answers 500, and raises the exception again for its server to log.
    RaisedAgain(&'static str, Origin),
    /// An exception leaves the application, and Gunicorn answers 500.
    Leaves(&'static str, Origin),
    /// The same, but Gunicorn only closes: it takes an `OSError` for one of its socket (23.0,
    /// `workers/sync.py`, `handle`).
    LeavesUnanswered(&'static str, Origin),
    /// It leaves after the head of a 200 was sent, and Gunicorn only closes.
    Breaks(&'static str, Origin),
}

use Fate::{
    Answered, Breaks, Leaves, LeavesUnanswered, Plain, RaisedAgain, Uncaught, Unseen, Well,
};
use Origin::{At, Template, View};

/// The client's behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// It reads the whole response.
    Reads,
    /// It closes after the head.
    Leaves,
}

/// A path of the applications.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub path: &'static str,
    pub what: &'static str,
    /// Its outcome under most frameworks; those in `but` differ.
    fate: Option<Fate>,
    but: &'static [(Framework, Option<Fate>)],
    pub client: Client,
}

const fn case(path: &'static str, what: &'static str, fate: Fate) -> Case {
    Case {
        path,
        what,
        fate: Some(fate),
        but: &[],
        client: Client::Reads,
    }
}

impl Case {
    const fn but(self, but: &'static [(Framework, Option<Fate>)]) -> Self {
        Self { but, ..self }
    }

    /// Only those frameworks have it.
    const fn only(self, only: &'static [(Framework, Option<Fate>)]) -> Self {
        Self {
            fate: None,
            but: only,
            ..self
        }
    }

    /// Its outcome there, if the framework has it.
    #[must_use]
    pub fn fate(&self, stand: &Stand) -> Option<Fate> {
        let framework = stand.framework;
        let other = self.but.iter().find(|(of, _)| *of == framework);
        let fate = other.map_or(self.fate, |(_, fate)| *fate)?;
        let fate = match fate {
            // Only gevent's worker takes it for its own (27.0.1, `workers/ggevent.py`,
            // `handle_request`).
            Leaves(name @ "SystemExit", origin) if stand.class == "gevent" => {
                LeavesUnanswered(name, origin)
            }
            Uncaught(name, origin) if matches!(framework, Raw | Pyramid) => Leaves(name, origin),
            // 1.10.0, `starlette/middleware/errors.py`, `ServerErrorMiddleware.__call__`.
            Uncaught(name, origin) if matches!(framework, Starlette | FastApi) => {
                RaisedAgain(name, origin)
            }
            Uncaught(name, origin) => Answered(500, name, origin),
            other => other,
        };
        Some(if framework.is_asgi() {
            self.on_event_loop(stand, fate)
        } else {
            fate
        })
    }

    /// The outcome where tasks serve requests: there is no deep capture.
    fn on_event_loop(&self, stand: &Stand, fate: Fate) -> Fate {
        match fate {
            Plain(status) => Unseen(status),
            // Django 5 serves each request in a task of its own (5.2, `core/handlers/asgi.py`, `handle`).
            Answered(status, ..) if stand.packages == Some("django-5.2") => Unseen(status),
            // The stack of a coroutine that an exception is thrown into has no beginning before 3.11
            // (`Objects/genobject.c`, `_gen_throw`): so where it comes out of a thread and is handled at once.
            Answered(status, ..) if self.is_of_thread(stand) && stand.is_before(11) => {
                Unseen(status)
            }
            // FastAPI asks for the exception when it leaves an `AsyncExitStack`.
            Answered(status, ..) if stand.framework == Starlette && stand.writes_later() => {
                Unseen(status)
            }
            // Nothing asks for what leaves the application after a complete response (27.0.1,
            // `asgi/protocol.py`, `_handle_http_request`).
            RaisedAgain(name, origin) if stand.class == "asgi" => Answered(500, name, origin),
            // It sends the head with the first bytes of the body.
            Breaks(name, origin) if stand.class == "asgi" && self.path == "/stream-fails" => {
                LeavesUnanswered(name, origin)
            }
            other => other,
        }
    }

    /// Whether a thread raises an exception that is handled at once.
    fn is_of_thread(&self, stand: &Stand) -> bool {
        match stand.framework {
            DjangoAsgi => self.path == "/mapped",
            // Starlette's handler runs in a thread too; when that is done, the stack is whole again.
            _ => self.path == "/pooled-unavailable" && stand.writes_later(),
        }
    }

    /// Whether only deep capture finds its exception, at least under some framework.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        SILENT.contains(&self.path)
    }

    /// Whether it can be tried there.
    #[must_use]
    pub fn is_for(&self, stand: &Stand) -> bool {
        let exits = matches!(self.path, "/exits" | "/generator-exits");
        self.fate(stand).is_some() && (!exits || stand.survives_exits())
    }
}

/// Deep in a chain of calls.
const LEDGER: Origin = At("stock/ledger.py", "Ledger._subtract");
const PRICE: Origin = At("stock/price.py", "Price.label");
/// A name of 300 characters: the observer reports its beginning.
const LONG: &str = "LongNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameName\
    NameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameName\
    NameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameNameName\
    NameNameNameNameNameNameName";

/// Fails without an exception. Sent first, so that the observer starts deep capture.
pub const STARTS_CAPTURE: &str = "/starts-capture";
/// Found only during deep capture, which lasts for a number of exceptions; and what must not be taken
/// for their cause.
const SILENT: [&str; 7] = [
    "/handled",
    "/answers",
    "/busy",
    "/unavailable",
    "/mapped",
    "/decorated",
    "/swallowed",
];
/// No error. Sent last.
pub const FENCE: &str = "/fence";

/// All cases, in the order they are sent: those that need deep capture first.
pub const CASES: [Case; 44] = [
    case("/ok", "nothing is wrong", Well(200)),
    case("/raises", "a view raises", Uncaught("ValueError", View)),
    case("/products", "a view of the other kind raises", Well(200)).only(&[
        (
            Django,
            Some(Uncaught(
                "ValueError",
                At("shop_django/views.py", "Products.get"),
            )),
        ),
        (
            DjangoAsgi,
            Some(Uncaught(
                "ValueError",
                At("shop_django/views.py", "Products.get"),
            )),
        ),
        (
            Rest,
            Some(Uncaught("ValueError", At("shop_rest/views.py", "products"))),
        ),
    ]),
    case(
        "/deep",
        "deep in a chain of calls",
        Uncaught("OutOfStock", LEDGER),
    ),
    case(
        "/raises-from",
        "`raise X from error`",
        Uncaught("LookupFailed", View),
    ),
    case(
        "/raises-while-handling",
        "raised while another is handled",
        Uncaught("RuntimeError", View),
    ),
    case(
        "/recovers-then-raises",
        "one is handled, then another raised",
        Uncaught("ValueError", View),
    ),
    case("/handled", "handled in the view, and logged", Well(200)),
    case("/answers", "a 500 without any exception", Plain(500)),
    case("/busy", "a 503 without any exception", Plain(503)),
    case("/aborts", "a 404 by an exception", Well(404)),
    case("/nowhere", "a 404 by the router", Well(404)),
    case(
        "/unavailable",
        "a 503 by an exception",
        Answered(503, "HTTPServiceUnavailable", View),
    )
    .but(&[
        (Raw, Some(Answered(503, "Unavailable", View))),
        (
            Flask,
            Some(Answered(
                503,
                "ServiceUnavailable",
                At("werkzeug/exceptions.py", "Aborter.__call__"),
            )),
        ),
        (
            Bottle,
            Some(Answered(503, "HTTPError", At("bottle.py", "abort"))),
        ),
        (Django, None),
        (DjangoAsgi, None),
        (Rest, Some(Answered(503, "ServiceUnavailable", View))),
        (Starlette, Some(Answered(503, "HTTPException", View))),
        (FastApi, Some(Answered(503, "HTTPException", View))),
    ]),
    case(
        "/mapped",
        "answered by the shop's own error handler",
        Answered(500, "OutOfCredit", View),
    ),
    case("/decorated", "answered by a view's decorator", Well(200)).only(&[
        (Django, Some(Answered(500, "OutOfStock", LEDGER))),
        (DjangoAsgi, Some(Unseen(500))),
    ]),
    case(
        "/swallowed",
        "answered by the view itself",
        Answered(500, "OutOfStock", LEDGER),
    )
    // Nothing is handled any more when the response is written.
    .but(&[
        (Starlette, Some(Unseen(500))),
        (FastApi, Some(Unseen(500))),
        (DjangoAsgi, Some(Unseen(500))),
    ]),
    case("/middleware", "middleware raises", Well(200)).only(&[
        (
            Raw,
            Some(Leaves("AuditFailed", At("shop_raw.py", "Audit.__call__"))),
        ),
        (
            Flask,
            Some(Leaves("AuditFailed", At("shop_flask.py", "Audit.__call__"))),
        ),
        (
            Bottle,
            Some(Leaves(
                "AuditFailed",
                At("shop_bottle.py", "Audit.__call__"),
            )),
        ),
        (
            Falcon,
            Some(Uncaught(
                "AuditFailed",
                At("shop_falcon.py", "Audit.process_request"),
            )),
        ),
        (
            Pyramid,
            Some(Uncaught("AuditFailed", At("shop_pyramid.py", "audited"))),
        ),
        (
            Django,
            Some(Uncaught(
                "AuditFailed",
                At("shop_django/middleware.py", "Audit.__call__"),
            )),
        ),
        (
            DjangoAsgi,
            Some(Uncaught(
                "AuditFailed",
                At("shop_django/middleware_async.py", "Audit.__call__"),
            )),
        ),
        (
            Starlette,
            Some(Uncaught("AuditFailed", At("shop_starlette.py", "audit"))),
        ),
        (
            FastApi,
            Some(Uncaught("AuditFailed", At("shop_fastapi.py", "audit"))),
        ),
        (
            Rest,
            Some(Uncaught(
                "AuditFailed",
                At("shop_rest/middleware.py", "audited"),
            )),
        ),
    ]),
    case("/hook", "what is called before each view raises", Well(200)).only(&[(
        Flask,
        Some(Uncaught("AuditFailed", At("shop_flask.py", "check"))),
    )]),
    case(
        "/template",
        "what a template calls raises",
        Uncaught("BadPrice", PRICE),
    ),
    case(
        "/template-undefined",
        "a template has an undefined name",
        Well(200),
    )
    .only(&[
        (Flask, Some(UNDEFINED)),
        (Falcon, Some(UNDEFINED)),
        (Pyramid, Some(UNDEFINED)),
        (Starlette, Some(UNDEFINED)),
        (FastApi, Some(UNDEFINED)),
    ]),
    case("/template-ratio", "a template itself raises", Well(200)).only(&[
        (Flask, Some(RATIO)),
        (Starlette, Some(RATIO)),
        (FastApi, Some(RATIO)),
    ]),
    case("/template-missing", "there is no such template", Well(200)).only(&[
        (
            Flask,
            Some(Uncaught(
                "TemplateNotFound",
                At(
                    "flask/templating.py",
                    "DispatchingJinjaLoader._get_source_fast",
                ),
            )),
        ),
        (
            Bottle,
            Some(Uncaught(
                "TemplateError",
                At("bottle.py", "BaseTemplate.__init__"),
            )),
        ),
        (
            Falcon,
            Some(Uncaught(
                "TemplateNotFound",
                At("jinja2/loaders.py", "FileSystemLoader.get_source"),
            )),
        ),
        (Starlette, Some(NO_TEMPLATE)),
        (FastApi, Some(NO_TEMPLATE)),
        (
            Pyramid,
            // An `OSError` by its class.
            Some(LeavesUnanswered(
                "TemplateNotFound",
                At(
                    "pyramid_jinja2/__init__.py",
                    "SmartAssetSpecLoader.get_source",
                ),
            )),
        ),
        (Django, Some(NO_DJANGO_TEMPLATE)),
        (DjangoAsgi, Some(NO_DJANGO_TEMPLATE)),
    ]),
    case("/stream", "a stream of a coroutine", Well(200)).only(&[
        (Starlette, Some(Well(200))),
        (FastApi, Some(Well(200))),
        (DjangoAsgi, Some(Well(200))),
    ]),
    case(
        "/stream-fails",
        "a stream fails before its first byte",
        Leaves("StreamFailed", At("stock/views.py", "nothing")),
    )
    .but(&[
        // It asks for the first bytes before it answers.
        (
            Bottle,
            Some(Uncaught("StreamFailed", At("stock/views.py", "nothing"))),
        ),
        // They answer first.
        (Starlette, Some(NOTHING_LATER)),
        (FastApi, Some(NOTHING_LATER)),
        (DjangoAsgi, Some(NOTHING_LATER)),
    ]),
    case(
        "/stream-breaks",
        "a stream fails after its first bytes",
        Breaks("StreamFailed", At("stock/views.py", "some")),
    )
    .but(&[
        (Starlette, Some(SOME_LATER)),
        (FastApi, Some(SOME_LATER)),
        (DjangoAsgi, Some(SOME_LATER)),
    ]),
    case(
        "/umlaut",
        "a name that is not ASCII",
        Uncaught("Überlauf", View),
    ),
    case(
        "/long-name",
        "a name of 300 characters",
        Uncaught(LONG, View),
    ),
    case(
        "/quoted-name",
        "a name with quotes, a backslash and a newline",
        // Control characters are replaced.
        Uncaught("Quo\"ted\\\u{fffd}Name", View),
    ),
    case(
        "/missing-on-shelf",
        "one of two classes of the same name",
        // Their modules distinguish them.
        Uncaught("stock.shelf.Missing", At("stock/shelf.py", "find")),
    ),
    case(
        "/missing-in-ledger",
        "the other of them",
        Uncaught("stock.ledger.Missing", At("stock/ledger.py", "find")),
    ),
    case("/exits", "SystemExit", Leaves("SystemExit", View)),
    case(
        "/generator-exits",
        "GeneratorExit",
        Leaves("GeneratorExit", View),
    ),
    case(
        "/missing-file",
        "FileNotFoundError",
        Answered(500, "FileNotFoundError", View),
    )
    .but(&[
        (Raw, Some(LeavesUnanswered("FileNotFoundError", View))),
        (Pyramid, Some(LeavesUnanswered("FileNotFoundError", View))),
        (Starlette, Some(RaisedAgain("FileNotFoundError", View))),
        (FastApi, Some(RaisedAgain("FileNotFoundError", View))),
    ]),
    case("/gathers", "a task of its own raises", Well(200)).only(&[
        (Starlette, Some(GATHERED)),
        (FastApi, Some(GATHERED)),
        (DjangoAsgi, Some(GATHERED)),
    ]),
    case("/waits", "a coroutine among functions raises", Well(200)).only(&[(
        DjangoAsgi,
        Some(Uncaught(
            "ValueError",
            At("shop_django/views_async.py", "waits"),
        )),
    )]),
    case("/pooled", "a function among coroutines raises", Well(200)).only(&[
        (Starlette, Some(Uncaught("ValueError", View))),
        (FastApi, Some(Uncaught("ValueError", View))),
    ]),
    case(
        "/pooled-unavailable",
        "a 503 by an exception of a function among coroutines",
        Well(200),
    )
    .only(&[
        (Starlette, Some(Answered(503, "HTTPException", View))),
        (FastApi, Some(Answered(503, "HTTPException", View))),
    ]),
    case("/depends", "what a view depends on raises", Well(200)).only(&[(
        FastApi,
        Some(Uncaught("OutOfStock", At("shop_fastapi.py", "supplier"))),
    )]),
    case(
        "/forgets",
        "what is done after the response raises",
        Well(200),
    )
    .only(&[(Starlette, Some(Well(200))), (FastApi, Some(Well(200)))]),
    case(
        "/behind-ok",
        "nothing is wrong behind a `BaseHTTPMiddleware`",
        Well(200),
    )
    .only(&[(Starlette, Some(Well(200))), (FastApi, Some(Well(200)))]),
    case(
        "/behind-raises",
        "a view behind a `BaseHTTPMiddleware` raises",
        Well(200),
    )
    .only(&[
        (Starlette, Some(Uncaught("ValueError", View))),
        (FastApi, Some(Uncaught("ValueError", View))),
    ]),
    // The task that handles it is the middleware's.
    case(
        "/behind-unavailable",
        "a 503 by an exception behind a `BaseHTTPMiddleware`",
        Well(200),
    )
    .only(&[(Starlette, Some(Unseen(503))), (FastApi, Some(Unseen(503)))]),
    Case {
        client: Client::Leaves,
        ..case(
            "/long-stream",
            "the client goes within a long stream",
            Well(200),
        )
    },
    case("/ok", "nothing is wrong after all that", Well(200)),
];

const NO_TEMPLATE: Fate = Uncaught(
    "TemplateNotFound",
    At("jinja2/loaders.py", "FileSystemLoader.get_source"),
);
const NO_DJANGO_TEMPLATE: Fate = Uncaught(
    "TemplateDoesNotExist",
    At("django/template/loader.py", "get_template"),
);
const NOTHING_LATER: Fate = Breaks("StreamFailed", At("stock/views_async.py", "nothing"));
const SOME_LATER: Fate = Breaks("StreamFailed", At("stock/views_async.py", "some"));
const GATHERED: Fate = Uncaught("OutOfStock", At("stock/views_async.py", "_count"));
const RATIO: Fate = Uncaught(
    "ZeroDivisionError",
    Template("ratio.html", "<module>", "top-level template code"),
);
const UNDEFINED: Fate = Uncaught(
    "UndefinedError",
    At("jinja2/environment.py", "Environment.getattr"),
);

#[cfg(test)]
mod tests {
    use super::{CASES, LONG};

    #[test]
    fn the_long_name_has_three_hundred_characters() {
        assert_eq!(LONG.len(), 300);
    }

    #[test]
    fn paths_have_no_digits_which_would_be_taken_for_numbers() {
        let has_digit = |path: &str| path.bytes().any(|byte| byte.is_ascii_digit());
        assert!(CASES.iter().all(|case| !has_digit(case.path)));
    }
}
