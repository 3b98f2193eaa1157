"""An application that does, on request, what an operator asks metrics about: it is slow, it fails, it
hangs, it collects garbage, it keeps the interpreter's lock, it is sent something and sends something.
"""

import gc
import time


def text(start_response, body, status="200 OK"):
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def ok(environ, start_response):
    return text(start_response, b"ok\n")


def upload(environ, start_response):
    return text(start_response, b"x" * len(environ["wsgi.input"].read()))


def raises(environ, start_response):
    raise LookupError("raised by the application")


def refuses(environ, start_response):
    """A 5xx on purpose: there is no exception."""
    return text(start_response, b"not now\n", "503 Service Unavailable")


def hangs(environ, start_response):
    while True:
        time.sleep(60)


def collects(environ, start_response):
    gc.collect()
    return text(start_response, b"collected\n")


def burns(environ, start_response):
    """Keeps the lock for a twentieth of a second."""
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    return text(start_response, b"burnt\n")


def streams(environ, start_response):
    """Two events, less than half a second apart."""
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    yield b"data: 1\n\n"
    time.sleep(0.4)
    yield b"data: 2\n\n"


VIEWS = {
    "/ok": ok,
    "/upload": upload,
    "/raises": raises,
    "/refuses": refuses,
    "/hangs": hangs,
    "/collects": collects,
    "/burns": burns,
    "/streams": streams,
}


def app(environ, start_response):
    return VIEWS[environ["PATH_INFO"]](environ, start_response)
