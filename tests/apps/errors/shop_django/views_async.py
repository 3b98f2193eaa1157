"""Views that are coroutines."""

import asyncio

from django.http import StreamingHttpResponse
from stock import views_async


async def waits(request):
    await asyncio.sleep(0.001)
    raise ValueError("on purpose")


async def gathers(request):
    await views_async.gather()


async def stream(request):
    return StreamingHttpResponse(views_async.few())


async def stream_fails(request):
    return StreamingHttpResponse(views_async.nothing())


async def stream_breaks(request):
    return StreamingHttpResponse(views_async.some())


async def long_stream(request):
    return StreamingHttpResponse(views_async.plenty())
