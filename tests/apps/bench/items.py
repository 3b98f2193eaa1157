"""Answers each path, some of them late: for comparing durations with the access log."""

import time

BODY = b"an item\n"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def app(environ, start_response):
    if environ["PATH_INFO"].endswith("0"):
        time.sleep(0.001)
    start_response("200 OK", HEADERS)
    return [BODY]
