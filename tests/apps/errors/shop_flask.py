"""A shop of Flask."""

from flask import Flask, abort, render_template
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


class Audit:
    """Middleware."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/middleware":
            raise AuditFailed("on purpose")
        return self.inner(environ, start_response)


app = Flask(__name__)
app.wsgi_app = Audit(app.wsgi_app)


@app.errorhandler(OutOfCredit)
def no_credit(error):
    return {"error": "no credit"}, 500


@app.before_request
def check():
    from flask import request

    if request.path == "/hook":
        raise AuditFailed("in a hook")


@app.get("/ok")
@app.get("/fence")
@app.get("/hook")
def ok():
    return "ok"


@app.get("/raises")
def raises():
    raise ValueError("on purpose")


@app.get("/deep")
def deep():
    return shelf.order("tea")


@app.get("/raises-from")
def raises_from():
    try:
        return {}["tea"]
    except KeyError as error:
        raise LookupFailed("tea") from error


@app.get("/raises-while-handling")
def raises_while_handling():
    try:
        return {}["tea"]
    except KeyError:
        raise RuntimeError("while handling")


@app.get("/recovers-then-raises")
def recovers_then_raises():
    views.recover()
    raise ValueError("after all")


@app.get("/handled")
def handled():
    return views.recover()


@app.get("/aborts")
def aborts():
    abort(404)


@app.get("/unavailable")
def unavailable():
    abort(503)


@app.get("/answers")
@app.get("/starts-capture")
def answers():
    return "broken", 500


@app.get("/busy")
def busy():
    return "busy", 503


@app.get("/mapped")
def mapped():
    raise OutOfCredit("no money")


@app.get("/swallowed")
def swallowed():
    try:
        return shelf.order("tea")
    except OutOfStock:
        return "sorry", 500


@app.get("/template")
def template():
    return render_template("price.html", price=Price())


@app.get("/template-undefined")
def template_undefined():
    return render_template("undefined.html")


@app.get("/template-ratio")
def template_ratio():
    return render_template("ratio.html", sold=1, stocked=0)


@app.get("/template-missing")
def template_missing():
    return render_template("nowhere.html")


@app.get("/stream-fails")
def stream_fails():
    return app.response_class(views.nothing())


@app.get("/stream-breaks")
def stream_breaks():
    return app.response_class(views.some())


@app.get("/umlaut")
def umlaut():
    raise Überlauf("too much")


@app.get("/long-name")
def long_name():
    raise LONG("long")


@app.get("/quoted-name")
def quoted_name():
    raise QUOTED("quoted")


@app.get("/missing-on-shelf")
def missing_on_shelf():
    return shelf.find("tea")


@app.get("/missing-in-ledger")
def missing_in_ledger():
    return ledger.find("tea")


@app.get("/exits")
def exits():
    raise SystemExit(3)


@app.get("/generator-exits")
def generator_exits():
    raise GeneratorExit("on purpose")


@app.get("/missing-file")
def missing_file():
    return open("/nowhere/tea", "rb").read()


@app.get("/long-stream")
def long_stream():
    return app.response_class(views.plenty())
