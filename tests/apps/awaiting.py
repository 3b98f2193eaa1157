"""Two hundred requests that wait, each in a function of its own, and where each of them is: as an ASGI
application, and as a WSGI one with a loop of its own.

A request of `/wait/N` is in the function `wait_N`, on the line 2 N + 2 of `waits.py`.
"""

import asyncio
import contextlib
import gc
import json
import threading

COUNT = 200
FOREVER = 3600


async def leaf():
    await asyncio.sleep(FOREVER)


async def deep(levels):
    if levels == 0:
        await asyncio.sleep(FOREVER)
    else:
        await deep(levels - 1)


async def pieces():
    await asyncio.sleep(FOREVER)
    yield 1


async def stream():
    async for _ in pieces():
        pass


@contextlib.asynccontextmanager
async def opened():
    await asyncio.Event().wait()
    yield


async def within():
    async with opened():
        pass


async def locked():
    lock = asyncio.Lock()
    async with lock:
        await lock.acquire()


class Wrapped:
    def __await__(self):
        return leaf().__await__()


def future():
    return asyncio.get_running_loop().create_future()


# What a function awaits, in turn.
WAYS = (
    "asyncio.sleep(FOREVER)",
    "asyncio.Event().wait()",
    "asyncio.Queue().get()",
    "future()",
    "deep(30)",
    "stream()",
    "within()",
    "locked()",
    "Wrapped()",
    "asyncio.gather(leaf(), leaf())",
    "asyncio.get_running_loop().create_task(leaf())",
    "asyncio.wait([asyncio.ensure_future(leaf())])",
    "asyncio.wait_for(leaf(), FOREVER)",
)
SOURCE = "".join(
    f"async def wait_{number}():\n    await {WAYS[number % len(WAYS)]}\n" for number in range(COUNT)
)
exec(compile(SOURCE, "waits.py", "exec"))


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"] == "/stacks":
        body = json.dumps(stacks()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
    else:
        await globals()[name_of(scope["path"])]()


def name_of(path):
    return path[1:].replace("/", "_")


def stacks():
    """Name and frames, innermost first, of each task but this one."""
    try:
        this = asyncio.current_task()
    except RuntimeError:
        this = None
    tasks = [task for task in asyncio.all_tasks(LOOP) if task is not this]
    return [{"name": task.get_name(), "frames": frames(task.get_coro())} for task in tasks]


def frames(coroutine):
    found = []
    while coroutine is not None:
        for kind, awaited in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            code = getattr(coroutine, f"{kind}_code", None)
            if code is not None:
                function = getattr(code, "co_qualname", code.co_name)
                line = getattr(coroutine, f"{kind}_frame").f_lineno
                found.append({"function": function, "file": code.co_filename, "line": line})
                coroutine = getattr(coroutine, awaited)
                break
        else:
            coroutine = behind(coroutine)
    return found[::-1]


def behind(wrapper):
    """The coroutine that an object such as `coroutine_wrapper` stands for."""
    for found in gc.get_referents(wrapper):
        if hasattr(found, "cr_code") or hasattr(found, "ag_code"):
            return found
    return None


# For WSGI: a loop in a thread, with a task for each request.
LOOP = None
# A loop does not keep its tasks: one that waits for what only it knows of would be collected.
TASKS = []


def serve_all():
    global LOOP
    LOOP = asyncio.new_event_loop()
    for number in range(COUNT):
        scope = {"type": "http", "method": "GET", "path": f"/wait/{number}"}
        TASKS.append(LOOP.create_task(app(scope, None, None)))
    threading.Thread(target=LOOP.run_forever, daemon=True).start()


def wsgi(environ, start_response):
    if LOOP is None:
        serve_all()
    body = json.dumps(stacks()).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
