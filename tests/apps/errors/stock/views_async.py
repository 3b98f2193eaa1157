"""What views of each asynchronous framework have in common."""

import asyncio

from .errors import OutOfStock, StreamFailed
from .views import ENOUGH


async def _count(name):
    await asyncio.sleep(0.001)
    raise OutOfStock(name)


async def gather():
    """Fails in a task of its own."""
    await asyncio.gather(_count("tea"))


async def nothing():
    """Fails before its first byte."""
    await asyncio.sleep(0)
    raise StreamFailed("before the first byte")
    yield b""


async def some():
    """Fails after its first bytes."""
    yield b"x" * 1000
    await asyncio.sleep(0)
    raise StreamFailed("after the first bytes")


async def few():
    """All is well."""
    for _ in range(3):
        yield b"x" * 1000
        await asyncio.sleep(0)


async def plenty():
    """More than any client's buffers hold."""
    for _ in range(ENOUGH):
        yield b"x" * 65536
        # Else servers that hold all of it notice nothing before the end.
        await asyncio.sleep(0)


async def forget():
    """What a task does after the response."""
    await asyncio.sleep(0.001)
    raise OutOfStock("forgotten")
