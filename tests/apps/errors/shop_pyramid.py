"""A shop of Pyramid, with pyramid_jinja2."""

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound, HTTPServiceUnavailable
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config
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


@view_config(route_name="ok")
@view_config(route_name="fence")
def ok(request):
    return Response("ok")


@view_config(route_name="raises")
def raises(request):
    raise ValueError("on purpose")


@view_config(route_name="deep")
def deep(request):
    return shelf.order("tea")


@view_config(route_name="raises-from")
def raises_from(request):
    try:
        return {}["tea"]
    except KeyError as error:
        raise LookupFailed("tea") from error


@view_config(route_name="raises-while-handling")
def raises_while_handling(request):
    try:
        return {}["tea"]
    except KeyError:
        raise RuntimeError("while handling")


@view_config(route_name="recovers-then-raises")
def recovers_then_raises(request):
    views.recover()
    raise ValueError("after all")


@view_config(route_name="handled")
def handled(request):
    return Response(views.recover())


@view_config(route_name="aborts")
def aborts(request):
    raise HTTPNotFound()


@view_config(route_name="unavailable")
def unavailable(request):
    raise HTTPServiceUnavailable()


@view_config(route_name="answers")
@view_config(route_name="starts-capture")
def answers(request):
    return Response("broken", status=500)


@view_config(route_name="busy")
def busy(request):
    # An exception by its class, but not raised.
    return HTTPServiceUnavailable()


@view_config(route_name="mapped")
def mapped(request):
    raise OutOfCredit("no money")


@exception_view_config(OutOfCredit)
def no_credit(error, request):
    return Response("no credit", status=500)


@view_config(route_name="swallowed")
def swallowed(request):
    try:
        return shelf.order("tea")
    except OutOfStock:
        return Response("sorry", status=500)


@view_config(route_name="template", renderer="templates/price.jinja2")
def template(request):
    return {"price": Price()}


@view_config(route_name="template-undefined", renderer="templates/undefined.jinja2")
def template_undefined(request):
    return {}


@view_config(route_name="template-missing", renderer="templates/nowhere.jinja2")
def template_missing(request):
    return {}


@view_config(route_name="stream-fails")
def stream_fails(request):
    return Response(app_iter=views.nothing())


@view_config(route_name="stream-breaks")
def stream_breaks(request):
    return Response(app_iter=views.some())


@view_config(route_name="umlaut")
def umlaut(request):
    raise Überlauf("too much")


@view_config(route_name="long-name")
def long_name(request):
    raise LONG("long")


@view_config(route_name="quoted-name")
def quoted_name(request):
    raise QUOTED("quoted")


@view_config(route_name="missing-on-shelf")
def missing_on_shelf(request):
    return shelf.find("tea")


@view_config(route_name="missing-in-ledger")
def missing_in_ledger(request):
    return ledger.find("tea")


@view_config(route_name="exits")
def exits(request):
    raise SystemExit(3)


@view_config(route_name="generator-exits")
def generator_exits(request):
    raise GeneratorExit("on purpose")


@view_config(route_name="missing-file")
def missing_file(request):
    return Response(open("/nowhere/tea", "rb").read())


@view_config(route_name="long-stream")
def long_stream(request):
    return Response(app_iter=views.plenty())


ROUTES = """
    ok fence raises deep raises-from raises-while-handling recovers-then-raises handled aborts
    unavailable answers busy mapped swallowed starts-capture template template-undefined
    template-missing stream-fails stream-breaks umlaut long-name quoted-name missing-on-shelf
    missing-in-ledger exits generator-exits missing-file long-stream
"""


def audit(handler, registry):
    """A tween, which is Pyramid's middleware."""

    def audited(request):
        if request.path == "/middleware":
            raise AuditFailed("on purpose")
        return handler(request)

    return audited


def main():
    with Configurator() as config:
        config.include("pyramid_jinja2")
        config.add_tween("shop_pyramid.audit")
        for route in ROUTES.split():
            config.add_route(route, "/" + route)
        config.scan("shop_pyramid")
        return config.make_wsgi_app()


app = main()
