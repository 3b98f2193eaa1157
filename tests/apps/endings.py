"""Responses that take long, break off, or are streams."""

import time

OK = "200 OK"


def torn():
    yield b"the first half, "
    raise RuntimeError("torn")


def events():
    for number in range(5):
        yield b"data: %d\n\n" % number
        time.sleep(0.3)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/torn":
        start_response(OK, [("Content-Length", "99")])
        return torn()
    if path == "/events":
        start_response(OK, [("Content-Type", "text/event-stream")])
        return events()
    if path == "/slow":
        time.sleep(1)
    start_response(OK, [("Content-Length", "3")])
    return [b"hi\n"]
