"""What views of each framework have in common: none of it raises what it is named for."""

import logging

from .errors import StreamFailed

ENOUGH = 4000


def recover():
    """Fails and goes on."""
    try:
        return {}["recovered"]
    except KeyError:
        logging.exception("handled")
        return "recovered"


def nothing():
    """Fails before its first byte."""
    raise StreamFailed("before the first byte")
    yield b""


def some():
    """Fails after its first bytes."""
    yield b"x" * 1000
    raise StreamFailed("after the first bytes")


def plenty():
    """More than any client's buffers hold."""
    for _ in range(ENOUGH):
        yield b"x" * 65536
