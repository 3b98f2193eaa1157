"""A shop without a framework, on any Python since 3.8."""

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


class HTTPError(Exception):
    """Answered by the application itself."""

    status = "500 Internal Server Error"


class NotFound(HTTPError):
    status = "404 Not Found"


class Unavailable(HTTPError):
    status = "503 Service Unavailable"


class Response:
    def __init__(self, body, status="200 OK"):
        self.body = body
        self.status = status


def ok():
    return Response([b"ok"])


def raises():
    raise ValueError("on purpose")


def deep():
    return shelf.order("tea")


def raises_from():
    try:
        return {}["tea"]
    except KeyError as error:
        raise LookupFailed("tea") from error


def raises_while_handling():
    try:
        return {}["tea"]
    except KeyError:
        raise RuntimeError("while handling")


def recovers_then_raises():
    views.recover()
    raise ValueError("after all")


def handled():
    return Response([views.recover().encode()])


def aborts():
    raise NotFound()


def unavailable():
    raise Unavailable()


def answers():
    return Response([b"broken"], "500 Internal Server Error")


def busy():
    return Response([b"busy"], "503 Service Unavailable")


def mapped():
    raise OutOfCredit("no money")


def swallowed():
    try:
        return shelf.order("tea")
    except OutOfStock:
        return Response([b"sorry"], "500 Internal Server Error")


def template():
    return Response(["<p>{price.label}</p>".format(price=Price()).encode()])


def stream_fails():
    return Response(views.nothing())


def stream_breaks():
    return Response(views.some())


def umlaut():
    raise Überlauf("too much")


def long_name():
    raise LONG("long")


def quoted_name():
    raise QUOTED("quoted")


def missing_on_shelf():
    return shelf.find("tea")


def missing_in_ledger():
    return ledger.find("tea")


def exits():
    raise SystemExit(3)


def generator_exits():
    raise GeneratorExit("on purpose")


def missing_file():
    return Response([open("/nowhere/tea", "rb").read()])


def long_stream():
    return Response(views.plenty())


VIEWS = {
    "/" + view.__name__.replace("_", "-"): view
    for view in (
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
        stream_fails,
        stream_breaks,
        umlaut,
        long_name,
        quoted_name,
        missing_on_shelf,
        missing_in_ledger,
        exits,
        generator_exits,
        missing_file,
        long_stream,
    )
}
VIEWS["/starts-capture"] = answers
VIEWS["/fence"] = ok


def respond(path):
    try:
        view = VIEWS.get(path)
        if view is None:
            raise NotFound()
        return view()
    except HTTPError as error:
        return Response([error.status.encode()], error.status)
    except OutOfCredit:
        return Response([b"no credit"], "500 Internal Server Error")


def shop(environ, start_response):
    response = respond(environ["PATH_INFO"])
    headers = [("Content-Type", "text/plain")]
    if isinstance(response.body, list):
        headers.append(("Content-Length", str(len(response.body[0]))))
    start_response(response.status, headers)
    return response.body


class Audit:
    """Middleware."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/middleware":
            raise AuditFailed("on purpose")
        return self.inner(environ, start_response)


app = Audit(shop)
