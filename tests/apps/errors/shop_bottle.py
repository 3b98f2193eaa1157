"""A shop of Bottle."""

import os

from bottle import TEMPLATE_PATH, Bottle, HTTPResponse, abort
from bottle import template as render
from stock import ledger, shelf, views
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

TEMPLATE_PATH.insert(0, os.path.join(os.path.dirname(__file__), "templates"))

shop = Bottle()


def no_credit(view):
    """A plugin."""

    def answer(*arguments, **named):
        try:
            return view(*arguments, **named)
        except OutOfCredit:
            return HTTPResponse("no credit", status=500)

    return answer


shop.install(no_credit)


@shop.get("/ok")
@shop.get("/fence")
def ok():
    return "ok"


@shop.get("/raises")
def raises():
    raise ValueError("on purpose")


@shop.get("/deep")
def deep():
    return shelf.order("tea")


@shop.get("/raises-from")
def raises_from():
    try:
        return {}["tea"]
    except KeyError as error:
        raise LookupFailed("tea") from error


@shop.get("/raises-while-handling")
def raises_while_handling():
    try:
        return {}["tea"]
    except KeyError:
        raise RuntimeError("while handling")


@shop.get("/recovers-then-raises")
def recovers_then_raises():
    views.recover()
    raise ValueError("after all")


@shop.get("/handled")
def handled():
    return views.recover()


@shop.get("/aborts")
def aborts():
    abort(404)


@shop.get("/unavailable")
def unavailable():
    abort(503)


@shop.get("/answers")
@shop.get("/starts-capture")
def answers():
    return HTTPResponse("broken", status=500)


@shop.get("/busy")
def busy():
    return HTTPResponse("busy", status=503)


@shop.get("/mapped")
def mapped():
    raise OutOfCredit("no money")


@shop.get("/swallowed")
def swallowed():
    try:
        return shelf.order("tea")
    except OutOfStock:
        return HTTPResponse("sorry", status=500)


@shop.get("/template")
def template():
    return render("price", price=Price())


@shop.get("/template-missing")
def template_missing():
    return render("nowhere")


@shop.get("/stream-fails")
def stream_fails():
    return views.nothing()


@shop.get("/stream-breaks")
def stream_breaks():
    return views.some()


@shop.get("/umlaut")
def umlaut():
    raise Überlauf("too much")


@shop.get("/long-name")
def long_name():
    raise LONG("long")


@shop.get("/quoted-name")
def quoted_name():
    raise QUOTED("quoted")


@shop.get("/missing-on-shelf")
def missing_on_shelf():
    return shelf.find("tea")


@shop.get("/missing-in-ledger")
def missing_in_ledger():
    return ledger.find("tea")


@shop.get("/exits")
def exits():
    raise SystemExit(3)


@shop.get("/generator-exits")
def generator_exits():
    raise GeneratorExit("on purpose")


@shop.get("/missing-file")
def missing_file():
    return open("/nowhere/tea", "rb").read()


@shop.get("/long-stream")
def long_stream():
    return views.plenty()


class Audit:
    """Middleware."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/middleware":
            raise AuditFailed("on purpose")
        return self.inner(environ, start_response)


app = Audit(shop)
