"""Times, inside each request, the calls that probes of each kind hook; `/times` returns the times.

Nanoseconds of `send`, `getpeername`, `getppid` and `datetime.now`, a line for each request.
"""

import os
import socket
from datetime import datetime
from time import perf_counter_ns

here, there = socket.socketpair(type=socket.SOCK_DGRAM)
# The kernel runs programs of control groups for the Internet only.
listening = socket.socket(type=socket.SOCK_DGRAM)
listening.bind(("127.0.0.1", 0))
connected = socket.socket(type=socket.SOCK_DGRAM)
connected.connect(listening.getsockname())

HEADERS = [("Content-Type", "text/plain")]
lines = []


def app(environ, start_response):
    if environ["PATH_INFO"] == "/times":
        body = "".join(lines).encode()
        lines.clear()
    else:
        body = b"hello\n"
        times = timed()
        there.recv(1)
        lines.append("%d %d %d %d\n" % times)
    start_response("200 OK", [*HEADERS, ("Content-Length", str(len(body)))])
    return [body]


def timed():
    # The uprobe comes last: after its exception the processor is slow for a while.
    start = perf_counter_ns()
    here.send(b"x")
    sent = perf_counter_ns()
    connected.getpeername()
    named = perf_counter_ns()
    os.getppid()
    asked = perf_counter_ns()
    datetime.now()
    end = perf_counter_ns()
    return sent - start, named - sent, asked - named, end - asked
