"""An ASGI application that cannot start while the file that `HANGS_AT_BOOT` names exists."""

import os
import traceback


def connect():
    if os.path.exists(os.environ["HANGS_AT_BOOT"]):
        raise ConnectionRefusedError("the database is not there")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        try:
            connect()
        except Exception:
            # As Starlette does.
            await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
