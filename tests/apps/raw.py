"""A WSGI application without a framework, for what a framework hides.

The path says how to answer.
"""

import os
import tempfile
import time
from urllib.parse import parse_qs

MEGABYTE = 1024 * 1024
PLAIN = ("Content-Type", "text/plain")


def _file():
    """A real file of 5 MB, made once a worker and deleted at once, for sendfile."""
    file = tempfile.TemporaryFile()
    file.write(b"f" * (5 * MEGABYTE))
    file.flush()
    return file


def hello(environ, start_response):
    start_response("200 OK", [PLAIN, ("Content-Length", "6")])
    # Gunicorn sends what the application returns, to HEAD too.
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"hello\n"]


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"one"')])
    return []


def chunked(environ, start_response):
    """No length: Gunicorn sends chunks to HTTP/1.1 and closes for HTTP/1.0."""
    start_response("200 OK", [PLAIN])
    return (b"chunk %d\n" % number for number in range(10))


def download(environ, start_response):
    start_response("200 OK", [PLAIN, ("Content-Length", str(5 * MEGABYTE))])
    return [b"d" * (5 * MEGABYTE)]


def drip(environ, start_response):
    """5 MB in pieces, so that a client that left is noticed in the middle."""
    start_response("200 OK", [PLAIN, ("Content-Length", str(5 * MEGABYTE))])
    return (b"d" * 65536 for _ in range(80))


def upload(environ, start_response):
    length = 0
    while piece := environ["wsgi.input"].read(65536):
        length += len(piece)
    body = b"%d\n" % length
    start_response("200 OK", [PLAIN, ("Content-Length", str(len(body)))])
    return [body]


def file(environ, start_response):
    opened = _file()
    opened.seek(0, os.SEEK_SET)
    start_response("200 OK", [PLAIN, ("Content-Length", str(5 * MEGABYTE))])
    return environ["wsgi.file_wrapper"](opened)


def slow(environ, start_response):
    time.sleep(float(parse_qs(environ["QUERY_STRING"])["seconds"][0]))
    return hello(environ, start_response)


def large_head(environ, start_response):
    """A head of more than 2 KiB."""
    policy = " ".join(f"https://cdn{number}.example.org" for number in range(100))
    start_response("200 OK", [PLAIN, ("Content-Security-Policy", policy), ("Content-Length", "6")])
    return [b"hello\n"]


def reset(environ, start_response):
    raise ConnectionResetError(104, "raised by the application")


def os_error(environ, start_response):
    raise OSError(5, "raised by the application")


def system_exit(environ, start_response):
    raise SystemExit(0)


def gone(environ, start_response):
    os._exit(1)


def write(environ, start_response):
    """The older way to answer: the callable that start_response returns."""
    send = start_response("200 OK", [PLAIN, ("Content-Length", "6")])
    send(b"hel")
    send(b"lo\n")
    return []


def raises(environ, start_response):
    raise RuntimeError("raised by the application")


def raises_in_body(environ, start_response):
    start_response("200 OK", [PLAIN, ("Content-Length", "6")])

    def body():
        raise RuntimeError("raised before the first byte of the body")
        yield b"never\n"

    return body()


def raises_late(environ, start_response):
    start_response("200 OK", [PLAIN, ("Content-Length", "100")])

    def body():
        yield b"early\n"
        raise RuntimeError("raised after the headers were sent")

    return body()


def cut_chunks(environ, start_response):
    start_response("200 OK", [PLAIN])

    def body():
        yield b"early\n"
        raise RuntimeError("raised after the first chunk")

    return body()


ROUTES = {
    "/hello": hello,
    "/fence": hello,
    "/no-content": no_content,
    "/not-modified": not_modified,
    "/chunked": chunked,
    "/download": download,
    "/drip": drip,
    "/upload": upload,
    "/file": file,
    "/slow": slow,
    "/large-head": large_head,
    "/reset": reset,
    "/os-error": os_error,
    "/system-exit": system_exit,
    "/gone": gone,
    "/write": write,
    "/raises": raises,
    "/raises-in-body": raises_in_body,
    "/raises-late": raises_late,
    "/cut-chunks": cut_chunks,
}


def app(environ, start_response):
    route = ROUTES.get(environ["PATH_INFO"])
    if route is None:
        start_response("404 Not Found", [PLAIN, ("Content-Length", "0")])
        return []
    return route(environ, start_response)
