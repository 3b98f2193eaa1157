"""A shop of FastAPI: one that runs on 0.95 and later."""

import os
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.templating import Jinja2Templates
from starlette.middleware.base import BaseHTTPMiddleware
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


app = FastAPI(lifespan=lifespan, default_response_class=PlainTextResponse)
app.add_middleware(Audit)


@app.exception_handler(OutOfCredit)
async def no_credit(request, error):
    return JSONResponse({"error": "no credit"}, 500)


@app.get("/ok")
@app.get("/fence")
@app.get("/middleware")
@app.get("/behind-ok")
def ok():
    return "ok"


@app.get("/raises")
async def raises():
    raise ValueError("on purpose")


@app.get("/deep")
async def deep():
    return shelf.order("tea")


@app.get("/raises-from")
async def raises_from():
    try:
        return {}["tea"]
    except KeyError as error:
        raise LookupFailed("tea") from error


@app.get("/raises-while-handling")
async def raises_while_handling():
    try:
        return {}["tea"]
    except KeyError:
        raise RuntimeError("while handling")


@app.get("/recovers-then-raises")
async def recovers_then_raises():
    views.recover()
    raise ValueError("after all")


@app.get("/handled")
async def handled():
    return views.recover()


@app.get("/aborts")
async def aborts():
    raise HTTPException(404)


@app.get("/unavailable")
async def unavailable():
    raise HTTPException(503)


@app.get("/answers")
@app.get("/starts-capture")
async def answers():
    return PlainTextResponse("broken", 500)


@app.get("/busy")
async def busy(response: Response):
    response.status_code = 503
    return "busy"


@app.get("/mapped")
async def mapped():
    raise OutOfCredit("no money")


@app.get("/swallowed")
async def swallowed():
    try:
        return shelf.order("tea")
    except OutOfStock:
        return PlainTextResponse("sorry", 500)


def rendered(name, **values):
    # Not `TemplateResponse`: its arguments are others in each version.
    return templates.get_template(name).render(**values)


@app.get("/template")
async def template():
    return rendered("price.html", price=Price())


@app.get("/template-undefined")
async def template_undefined():
    return rendered("undefined.html")


@app.get("/template-ratio")
async def template_ratio():
    return rendered("ratio.html", sold=1, stocked=0)


@app.get("/template-missing")
async def template_missing():
    return rendered("nowhere.html")


@app.get("/stream")
async def stream():
    return StreamingResponse(views_async.few())


@app.get("/stream-fails")
async def stream_fails():
    return StreamingResponse(views_async.nothing())


@app.get("/stream-breaks")
async def stream_breaks():
    return StreamingResponse(views_async.some())


@app.get("/umlaut")
async def umlaut():
    raise Überlauf("too much")


@app.get("/long-name")
async def long_name():
    raise LONG("long")


@app.get("/quoted-name")
async def quoted_name():
    raise QUOTED("quoted")


@app.get("/missing-on-shelf")
async def missing_on_shelf():
    return shelf.find("tea")


@app.get("/missing-in-ledger")
async def missing_in_ledger():
    return ledger.find("tea")


@app.get("/missing-file")
async def missing_file():
    return open("/nowhere/tea", "rb").read()


@app.get("/long-stream")
async def long_stream():
    return StreamingResponse(views_async.plenty())


@app.get("/gathers")
async def gathers():
    await views_async.gather()


@app.get("/pooled")
def pooled():
    """Called in a thread of a pool."""
    raise ValueError("on purpose")


@app.get("/pooled-unavailable")
def pooled_unavailable():
    raise HTTPException(503)


def supplier():
    raise OutOfStock("tea")


@app.get("/depends")
async def depends(supplier=Depends(supplier)):
    return "ok"


@app.get("/forgets")
async def forgets(tasks: BackgroundTasks):
    tasks.add_task(views_async.forget)
    return "ok"


@app.get("/behind-raises")
async def behind_raises():
    raise ValueError("on purpose")


@app.get("/behind-unavailable")
async def behind_unavailable():
    raise HTTPException(503)
