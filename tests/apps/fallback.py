"""Starts Gunicorn while an exception is handled, as programs do where another server is missing."""

import sys

try:
    import a_server_that_is_not_installed  # noqa: F401
except ImportError:
    from gunicorn.app.wsgiapp import run

    sys.exit(run())
