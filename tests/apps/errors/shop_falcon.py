"""A shop of Falcon."""

import os

import falcon
import jinja2
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

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(os.path.join(os.path.dirname(__file__), "templates"))
)


class Ok:
    def on_get(self, req, resp):
        resp.text = "ok"


class Raises:
    def on_get(self, req, resp):
        raise ValueError("on purpose")


class Deep:
    def on_get(self, req, resp):
        resp.text = shelf.order("tea")


class RaisesFrom:
    def on_get(self, req, resp):
        try:
            resp.text = {}["tea"]
        except KeyError as error:
            raise LookupFailed("tea") from error


class RaisesWhileHandling:
    def on_get(self, req, resp):
        try:
            resp.text = {}["tea"]
        except KeyError:
            raise RuntimeError("while handling")


class RecoversThenRaises:
    def on_get(self, req, resp):
        views.recover()
        raise ValueError("after all")


class Handled:
    def on_get(self, req, resp):
        resp.text = views.recover()


class Aborts:
    def on_get(self, req, resp):
        raise falcon.HTTPNotFound()


class Unavailable:
    def on_get(self, req, resp):
        raise falcon.HTTPServiceUnavailable()


class Answers:
    def on_get(self, req, resp):
        resp.status = falcon.HTTP_500


class Busy:
    def on_get(self, req, resp):
        resp.status = falcon.HTTP_503


class Mapped:
    def on_get(self, req, resp):
        raise OutOfCredit("no money")


class Swallowed:
    def on_get(self, req, resp):
        try:
            resp.text = shelf.order("tea")
        except OutOfStock:
            resp.status = falcon.HTTP_500


class Template:
    def on_get(self, req, resp):
        resp.text = TEMPLATES.get_template("price.html").render(price=Price())


class TemplateUndefined:
    def on_get(self, req, resp):
        resp.text = TEMPLATES.get_template("undefined.html").render()


class TemplateMissing:
    def on_get(self, req, resp):
        resp.text = TEMPLATES.get_template("nowhere.html").render()


class StreamFails:
    def on_get(self, req, resp):
        resp.stream = views.nothing()


class StreamBreaks:
    def on_get(self, req, resp):
        resp.stream = views.some()


class Umlaut:
    def on_get(self, req, resp):
        raise Überlauf("too much")


class LongName:
    def on_get(self, req, resp):
        raise LONG("long")


class QuotedName:
    def on_get(self, req, resp):
        raise QUOTED("quoted")


class MissingOnShelf:
    def on_get(self, req, resp):
        shelf.find("tea")


class MissingInLedger:
    def on_get(self, req, resp):
        ledger.find("tea")


class Exits:
    def on_get(self, req, resp):
        raise SystemExit(3)


class GeneratorExits:
    def on_get(self, req, resp):
        raise GeneratorExit("on purpose")


class MissingFile:
    def on_get(self, req, resp):
        resp.data = open("/nowhere/tea", "rb").read()


class LongStream:
    def on_get(self, req, resp):
        resp.stream = views.plenty()


class Audit:
    """Middleware."""

    def process_request(self, req, resp):
        if req.path == "/middleware":
            raise AuditFailed("on purpose")


def no_credit(req, resp, error, params):
    resp.status = falcon.HTTP_500
    resp.media = {"error": "no credit"}


app = falcon.App(middleware=[Audit()])
app.add_error_handler(OutOfCredit, no_credit)
for path, resource in {
    "/ok": Ok,
    "/fence": Ok,
    "/raises": Raises,
    "/deep": Deep,
    "/raises-from": RaisesFrom,
    "/raises-while-handling": RaisesWhileHandling,
    "/recovers-then-raises": RecoversThenRaises,
    "/handled": Handled,
    "/aborts": Aborts,
    "/unavailable": Unavailable,
    "/answers": Answers,
    "/busy": Busy,
    "/mapped": Mapped,
    "/swallowed": Swallowed,
    "/starts-capture": Answers,
    "/template": Template,
    "/template-undefined": TemplateUndefined,
    "/template-missing": TemplateMissing,
    "/stream-fails": StreamFails,
    "/stream-breaks": StreamBreaks,
    "/umlaut": Umlaut,
    "/long-name": LongName,
    "/quoted-name": QuotedName,
    "/missing-on-shelf": MissingOnShelf,
    "/missing-in-ledger": MissingInLedger,
    "/exits": Exits,
    "/generator-exits": GeneratorExits,
    "/missing-file": MissingFile,
    "/long-stream": LongStream,
}.items():
    app.add_route(path, resource())
