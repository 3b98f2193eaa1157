"""The shop for ASGI servers: an application without a framework."""

import asyncio

MEGABYTE = 1024 * 1024


async def read_body(receive):
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            return length


async def answer(send, status, pieces, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def whole(send, status, body):
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    length = await read_body(receive)
    # Behind a number of the test's own.
    name = scope["path"].rsplit("/", 1)[-1]
    if name == "welcome":
        await whole(send, 200, b"welcome\n")
    elif name == "orders":
        await whole(send, 201, str(length).encode())
    elif name == "search":
        await asyncio.sleep(0.01)
        await whole(send, 200, b"found nothing\n")
    elif name == "export":
        # A stream of unknown length.
        await answer(send, 200, (f"product {number}\n".encode() for number in range(100)))
    elif name == "catalogue":
        # More than a socket takes at once.
        await whole(send, 200, b"c" * (5 * MEGABYTE))
    elif name == "cart":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    elif name == "checkout":
        raise ValueError("the payment provider said no")
    else:
        await whole(send, 404, b"not found\n")
