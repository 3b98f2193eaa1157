"""A WSGI application whose requests hang, and whose workers die, in every way a test asks for.

The path says how; a number may come before it, as in raw. Lines where a request is stuck carry a
comment `stuck: <what>`, by which a test finds their numbers.

`HANGS_AT_BOOT` names a file; where it exists, its text says how importing this fails: `raises`,
`has no app`, `exits <code>`; or it `waits` until the file is gone. With `HANGS_SIGNALLED` threads do not take
SIGABRT unless a request says so.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from urllib.parse import parse_qs

from numbered import numbered

MEGABYTE = 1024 * 1024
NEVER = threading.Lock()
NEVER.acquire()


def answer(start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]


def ok(environ, start_response):
    return answer(start_response)


def sleep(environ, start_response):
    """In a call of C, as a query without an answer."""

    def nap(seconds):
        time.sleep(seconds)  # stuck: sleep

    nap(float(parse_qs(environ["QUERY_STRING"])["s"][0]))
    return answer(start_response)


def stop(environ, start_response):
    """As a debugger or a paused container does it."""

    def halt():
        os.kill(os.getpid(), signal.SIGSTOP)  # stuck: stop

    halt()
    return answer(start_response)


def spin():
    turns = 0
    # One line, as compilers give the jump back to one or the other of two.
    while True: turns += 1  # stuck: loop


def loop(environ, start_response):
    spin()


def wait_for_it(lock):
    with lock:  # stuck: lock
        pass


def lock(environ, start_response):
    wait_for_it(NEVER)


def signalled(environ, start_response):
    """In a thread that gets the signal which the main thread does not."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGABRT})
    wait_for_it(NEVER)


def segv(environ, start_response):
    ctypes.string_at(0)


def exit_now(environ, start_response):
    os._exit(int(environ["PATH_INFO"].rpartition("/")[2]))


def eat(environ, start_response):
    """More and more memory, each page of it touched."""
    eaten = []
    while True:
        eaten.append(b"x" * MEGABYTE)


def sysexit(environ, start_response):
    sys.exit(5)


ROUTES = {
    "ok": ok,
    "sleep": sleep,
    "stop": stop,
    "loop": loop,
    "lock": lock,
    "signalled": signalled,
    "segv": segv,
    "exit": exit_now,
    "eat": eat,
    "sysexit": sysexit,
}


def route(environ, start_response):
    return ROUTES[environ["PATH_INFO"].split("/")[1]](environ, start_response)


app = numbered(route)


def fail_at_boot():
    global app
    path = os.environ.get("HANGS_AT_BOOT", "")
    if not os.path.exists(path):
        return
    with open(path) as file:
        how = file.read()
    if how == "raises":
        # A real application takes longer to import.
        time.sleep(0.2)
        raise RuntimeError("it cannot be imported")
    if how == "has no app":
        del app
    while how == "waits" and os.path.exists(path):
        time.sleep(0.01)
    if how.startswith("exits "):
        os._exit(int(how.split()[1]))


if "HANGS_SIGNALLED" in os.environ:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGABRT})
fail_at_boot()
