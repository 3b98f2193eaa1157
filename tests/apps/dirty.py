"""An application whose work is done by dirty workers (`gunicorn/dirty`), which may die of it."""

import os
import signal

from gunicorn.dirty import get_dirty_client
from gunicorn.dirty.app import DirtyApp


class Work(DirtyApp):
    def init(self):
        pass

    def add(self):
        return 3

    def die(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def close(self):
        pass


def app(environ, start_response):
    """Answers with what the method named by the path returns."""
    try:
        result = get_dirty_client().execute("dirty:Work", environ["PATH_INFO"].strip("/"))
    except Exception as error:
        result = error
    body = str(result).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
