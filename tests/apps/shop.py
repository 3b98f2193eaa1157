"""A small shop, as people write them: what the tests load and the demo shows."""

import tempfile
import time

from flask import Flask, Response, abort, jsonify, request, send_file
from numbered import numbered

MEGABYTE = 1024 * 1024
PRODUCTS = {number: f"product {number}" for number in range(1, 101)}

app = Flask(__name__)


@app.get("/")
@app.get("/welcome")
def index():
    return "welcome\n"


@app.get("/products")
def products():
    return jsonify(list(PRODUCTS.values()))


@app.get("/products/<int:number>")
def product(number):
    if number not in PRODUCTS:
        abort(404)
    return jsonify(number=number, name=PRODUCTS[number])


@app.post("/orders")
def order():
    """Reads the whole body, and says how long it was."""
    return jsonify(bytes=len(request.get_data())), 201


@app.get("/search")
def search():
    """Takes as long as the query says."""
    time.sleep(float(request.args.get("seconds", "0.02")))
    return "found nothing\n"


@app.get("/export")
def export():
    """A stream of unknown length."""
    return Response((f"{name}\n" for name in PRODUCTS.values()), mimetype="text/csv")


@app.get("/catalogue")
def catalogue():
    """5 MB in one piece."""
    return Response(b"c" * (5 * MEGABYTE), mimetype="application/octet-stream")


@app.get("/manual")
def manual():
    """A file, by the server's file wrapper."""
    file = tempfile.TemporaryFile()
    file.write(b"m" * 100_000)
    file.seek(0)
    return send_file(file, mimetype="application/octet-stream")


@app.delete("/cart")
def empty_cart():
    return "", 204


@app.get("/logo")
def logo():
    return "", 304


@app.get("/checkout")
def checkout():
    """An exception that Flask answers with a 500."""
    raise ValueError("the payment provider said no")


@app.get("/broken-export")
def broken_export():
    """An exception while the body is iterated, before its first byte."""

    def rows():
        raise ValueError("no rows")
        yield ""

    return Response(rows(), mimetype="text/csv")


@app.get("/cut-export")
def cut_export():
    """An exception after the headers were sent."""

    def rows():
        yield "first row\n"
        raise ValueError("no second row")

    return Response(rows(), mimetype="text/csv")


def crash_outside_flask(inner):
    """An exception that no framework sees: it leaves the application."""

    def wrapped(environ, start_response):
        if environ["PATH_INFO"] == "/crash":
            raise RuntimeError("outside of Flask")
        return inner(environ, start_response)

    return wrapped


app.wsgi_app = numbered(crash_outside_flask(app.wsgi_app))
