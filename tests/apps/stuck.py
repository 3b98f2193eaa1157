"""Views that do not answer, each stuck in its own way, and one that lists where every thread is."""

import json
import os
import sys
import threading
import time

LOCK = threading.Lock()
LOCK.acquire()


class Stuck:
    def in_c(self):
        return sorted(
            [1],
            key=lambda item: time.sleep(
                3600,
            ),
        )

    def in_python(self):
        # One line, so that all who look see the same.
        while True: pass  # noqa: E701

    def on_lock(self):
        items = [
            1,
        ]
        with LOCK:
            return items


def stacks():
    frames = sys._current_frames()
    threads = [thread for thread in threading.enumerate() if thread.ident in frames]
    return [{"tid": tid(thread), "frames": walk(frames[thread.ident])} for thread in threads]


def tid(thread):
    # Before 3.12 it keeps the parent's in a forked child.
    return os.getpid() if thread is threading.main_thread() else thread.native_id


def walk(frame):
    walked = []
    while frame:
        code = frame.f_code
        function = getattr(code, "co_qualname", code.co_name)
        walked.append({"function": function, "file": code.co_filename, "line": frame.f_lineno})
        frame = frame.f_back
    return walked


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path != "/stacks":
        getattr(Stuck(), path[1:])()
    body = json.dumps(stacks()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
