"""Marks each `datetime.now()` of Gunicorn's request handling in strace's log.

A mark is a write to a file that is not open, so that nothing else changes. Imported by
`cargo xtask record-calls` only.
"""

import datetime
import itertools
import os
import sys

MARKS = 999
NUMBERS = itertools.count(1)


def number(request):
    if request is None:
        return "-"
    if not hasattr(request, "_number"):
        request._number = next(NUMBERS)
    return request._number


def status_and_bytes(response):
    status = getattr(response, "status", None)
    sent = getattr(response, "sent", "-")
    return f"{str(status).split()[0] if status else '-'} {sent}"


def mark(frame):
    name = frame.f_code.co_name
    if name not in ("handle_request", "handle_http2_request", "handle_error"):
        return
    local = frame.f_locals
    request = local.get("req")
    client = local.get("client") or local.get("sock") or local["conn"].sock
    place = f"{client.fileno()} {number(request)}"
    if name == "handle_error":
        words = f"error {place} {type(local['exc']).__name__}"
    elif "request_start" in local:
        words = f"exit {place} {status_and_bytes(local.get('resp'))}"
    else:
        words = f"enter {place} {request.method} {request.path}"
    try:
        os.write(MARKS, words.encode())
    except OSError:
        pass


class Marked(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        mark(sys._getframe(1))
        return super().now(tz)


datetime.datetime = Marked
