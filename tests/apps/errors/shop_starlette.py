"""A shop of Starlette: one that runs on 0.27 and later."""

import os
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.templating import Jinja2Templates
from stock import ledger, shelf, views, views_async
from stock.errors import (
    LONG,
    QUOTED,
    AuditFailed,
    LookupFailed,
    OutOfCredit,
    OutOfStock,
    Überlauf,
)
from stock.price import Price

templates = Jinja2Templates(
    directory=os.path.join(os.path.dirname(__file__), "templates")
)


def ok(request):
    return PlainTextResponse("ok")


async def raises(request):
    raise ValueError("on purpose")


async def deep(request):
    return PlainTextResponse(shelf.order("tea"))


async def raises_from(request):
    try:
        return {}["tea"]
    except KeyError as error:
        raise LookupFailed("tea") from error


async def raises_while_handling(request):
    try:
        return {}["tea"]
    except KeyError:
        raise RuntimeError("while handling")


async def recovers_then_raises(request):
    views.recover()
    raise ValueError("after all")


async def handled(request):
    return PlainTextResponse(views.recover())


async def aborts(request):
    raise HTTPException(404)


async def unavailable(request):
    raise HTTPException(503)


async def answers(request):
    return PlainTextResponse("broken", 500)


async def busy(request):
    return PlainTextResponse("busy", 503)


async def mapped(request):
    raise OutOfCredit("no money")


async def no_credit(request, error):
    return JSONResponse({"error": "no credit"}, 500)


async def swallowed(request):
    try:
        return PlainTextResponse(shelf.order("tea"))
    except OutOfStock:
        return PlainTextResponse("sorry", 500)


def rendered(request, name, **values):
    # Not `TemplateResponse`: its arguments are others in each version.
    return PlainTextResponse(templates.get_template(name).render(**values))


async def template(request):
    return rendered(request, "price.html", price=Price())


async def template_undefined(request):
    return rendered(request, "undefined.html")


async def template_ratio(request):
    return rendered(request, "ratio.html", sold=1, stocked=0)


async def template_missing(request):
    return rendered(request, "nowhere.html")


async def stream(request):
    return StreamingResponse(views_async.few())


async def stream_fails(request):
    return StreamingResponse(views_async.nothing())


async def stream_breaks(request):
    return StreamingResponse(views_async.some())


async def umlaut(request):
    raise Überlauf("too much")


async def long_name(request):
    raise LONG("long")


async def quoted_name(request):
    raise QUOTED("quoted")


async def missing_on_shelf(request):
    return PlainTextResponse(shelf.find("tea"))


async def missing_in_ledger(request):
    return PlainTextResponse(ledger.find("tea"))


async def missing_file(request):
    return PlainTextResponse(open("/nowhere/tea", "rb").read())


async def long_stream(request):
    return StreamingResponse(views_async.plenty())


async def gathers(request):
    await views_async.gather()


def pooled(request):
    """Called in a thread of a pool."""
    raise ValueError("on purpose")


def pooled_unavailable(request):
    raise HTTPException(503)


async def forgets(request):
    return PlainTextResponse("ok", background=BackgroundTask(views_async.forget))


async def behind_raises(request):
    raise ValueError("on purpose")


async def behind_unavailable(request):
    raise HTTPException(503)


VIEWS = (
    ok,
    raises,
    deep,
    raises_from,
    raises_while_handling,
    recovers_then_raises,
    handled,
    aborts,
    unavailable,
    answers,
    busy,
    mapped,
    swallowed,
    template,
    template_undefined,
    template_ratio,
    template_missing,
    stream,
    stream_fails,
    stream_breaks,
    umlaut,
    long_name,
    quoted_name,
    missing_on_shelf,
    missing_in_ledger,
    missing_file,
    long_stream,
    gathers,
    pooled,
    pooled_unavailable,
    forgets,
    behind_raises,
    behind_unavailable,
)
ROUTES = {"/" + view.__name__.replace("_", "-"): view for view in VIEWS}
ROUTES["/starts-capture"] = answers
for path in ("/fence", "/middleware", "/behind-ok"):
    ROUTES[path] = ok


async def audit(request, call_next):
    if request.url.path == "/middleware":
        raise AuditFailed("on purpose")
    return await call_next(request)


class Audit:
    """The middleware of some paths: it has the application in a task of its own."""

    def __init__(self, app):
        self.plain = app
        self.audited = BaseHTTPMiddleware(app, dispatch=audit)

    async def __call__(self, scope, receive, send):
        is_audited = scope.get("path", "").startswith(("/behind", "/middleware"))
        await (self.audited if is_audited else self.plain)(scope, receive, send)


@asynccontextmanager
async def lifespan(app):
    yield


app = Starlette(
    routes=[Route(path, view) for path, view in ROUTES.items()],
    middleware=[Middleware(Audit)],
    exception_handlers={OutOfCredit: no_credit},
    lifespan=lifespan,
)
