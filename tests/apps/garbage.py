"""A WSGI application that ruins the interpreter it runs in.

The path says how; any other answers.
"""

import ctypes

LIBC = ctypes.PyDLL(None)
PAGE = 4096


def runtime():
    """Address of `_PyRuntime`, where whoever looks for the interpreter begins."""
    return ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))


def scribble():
    ctypes.memset(runtime(), 0x41, 2 * PAGE)


def unmap():
    start = ctypes.c_void_p(runtime() & -PAGE)
    LIBC.munmap(start, ctypes.c_size_t(2 * PAGE))


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/scribble":
        scribble()
    if path == "/unmap":
        unmap()
    body = b"%d\n" % runtime()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
