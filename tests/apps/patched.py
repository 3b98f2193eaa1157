"""An application that makes the interpreter it is loaded in cooperative."""

from gevent import monkey

monkey.patch_all()

from cell import app  # noqa: E402, F401
