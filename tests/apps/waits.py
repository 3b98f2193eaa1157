"""What a worker waits for inside of its interpreter, measured by itself: garbage collections,
and the interpreter's lock."""

import gc
import os
import time

collections = 0
collecting_seconds = 0.0
_begun = 0.0


def measure(phase, _info):
    global collections, collecting_seconds, _begun
    if phase == "start":
        _begun = time.perf_counter()
    else:
        collections += 1
        collecting_seconds += time.perf_counter() - _begun


gc.callbacks.append(measure)
if os.environ.get("NO_GC"):
    gc.disable()
kept = [{"n": [n]} for n in range(100_000)]


def collected():
    return f"{collections} {collecting_seconds:.9f}"


def collect():
    for _ in range(10):
        gc.collect()
    return collected()


def burn():
    """Keeps the lock for half a second of this thread's processor time."""
    begun, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < 0.5:
        pass
    return f"{time.monotonic() - begun:.9f}"


VIEWS = {"/collected": collected, "/collect": collect, "/burn": burn, "/idle": lambda: ""}


def app(environ, start_response):
    body = VIEWS[environ["PATH_INFO"]]().encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
