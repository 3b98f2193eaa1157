"""Requests under each kernel: one path for each feature of the observer."""

import gc
import sys
import tempfile
import time

MEGABYTE = 1024 * 1024
FILE_BYTES = 100_000


def welcome(environ):
    return "200 OK", b"welcome\n"


def file(environ):
    """By the server's file wrapper."""
    body = tempfile.TemporaryFile()
    body.write(b"f" * FILE_BYTES)
    body.seek(0)
    return "200 OK", environ["wsgi.file_wrapper"](body)


def plain(environ):
    """A 500 without an exception."""
    return "500 Internal Server Error", b"broken\n"


def asked(environ):
    """A framework's page about an exception, which it asks for to log it."""
    try:
        raise ValueError("on purpose")
    except ValueError:
        sys.exc_info()
        return "500 Internal Server Error", b"broken\n"


def silent(environ):
    """One about an exception that nobody asks for."""
    try:
        raise LookupError("on purpose")
    except LookupError:
        return "500 Internal Server Error", b"broken\n"


def collect(environ):
    for _ in range(10):
        gc.collect()
    return "200 OK", b"collected\n"


def burn(environ):
    """Keeps the interpreter's lock for some time of this thread's processor."""
    used = time.thread_time()
    while time.thread_time() - used < 0.2:
        pass
    return "200 OK", b"burnt\n"


def nap(environ):
    time.sleep(600)  # stuck: nap


def eat(environ):
    eaten = []
    while True:
        eaten.append(b"x" * MEGABYTE)


VIEWS = (welcome, file, plain, asked, silent, collect, burn, nap, eat)
ROUTES = {"/" + view.__name__: view for view in VIEWS}


def app(environ, start_response):
    status, body = ROUTES[environ["PATH_INFO"]](environ)
    length = str(len(body) if isinstance(body, bytes) else FILE_BYTES)
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", length)])
    return [body] if isinstance(body, bytes) else body
