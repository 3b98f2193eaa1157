"""Failures of an ASGI application, each at a path of its own and in a function of its own."""

import asyncio
import logging


class Refused(Exception):
    pass


async def answer(send, status, body=b"hi\n"):
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def good(send):
    await asyncio.sleep(0.002)
    await answer(send, 200)


async def caught(send):
    """What is handled and answered well is no failure."""
    try:
        raise IndexError("caught")
    except IndexError:
        logging.getLogger("app").debug("caught", exc_info=True)
        await answer(send, 200)


async def raises(send):
    raise LookupError("raised")


async def waits(send):
    await asyncio.sleep(0.005)
    raise KeyError("raised after an await")


async def child(send):
    async def below():
        await asyncio.sleep(0.001)
        raise ZeroDivisionError("raised in a child task")

    await asyncio.gather(below())


async def refuses(send):
    """Answered by a handler, as frameworks do."""
    try:
        raise Refused("not now")
    except Refused:
        await answer(send, 503)


async def returns(send):
    """A 5xx on purpose: there is no exception."""
    await answer(send, 502)


VIEWS = {view.__name__: view for view in (good, caught, raises, waits, child, refuses, returns)}


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    while (await receive()).get("more_body"):
        pass
    await VIEWS[scope["path"].strip("/")](send)
