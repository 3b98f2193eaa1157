"""A program that looks like a Gunicorn and is none, to see what an observer can be made to do.

Run as `python impostor.py FOLDER TRICK PID FILE`: writes modules named like Gunicorn's into the
folder, handles signals with an `Arbiter` of its own, and claims the process PID for a worker. `TRICK` says what
else is wrong with it; FILE is one that it may not read.
"""

import ctypes
import datetime
import os
import shutil
import signal
import sys
import time

folder, trick, claimed, secret = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]

ARBITER = """
import os, time
__version__ = "27.0.1"
class Arbiter:
    WORKERS = {}
    LISTENERS = []
    def run(self):
        parent = os.getppid()
        print("running", flush=True)
        while os.getppid() == parent:
            time.sleep(0.05)
            self.turn()
"""
SYNC = """
import datetime, time
class SyncWorker:
    def handle_request(self, listener, req, client, addr):
        began = datetime.datetime.now()
        resp = self.respond(req)
        ended = datetime.datetime.now()
        return resp
    def handle_error(self, req, client, addr, exc):
        datetime.datetime.now()
        return exc
"""

HOSTILE = 'x"} 1\nfake_total{app="y\\'


def load(name, text):
    """A module whose code comes from a file of Gunicorn's name."""
    path = os.path.join(folder, *name.split(".")) + ".py"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    module = {"__name__": name}
    exec(compile(text, path, "exec"), module)
    return module


arbiter_module = load("gunicorn.arbiter", ARBITER)
sync_module = load("gunicorn.workers.sync", SYNC)
Arbiter, SyncWorker = arbiter_module["Arbiter"], sync_module["SyncWorker"]


class Thing:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Worker(SyncWorker):
    def respond(self, req):
        return Thing(status=HOSTILE, sent=-1)


Worker.__name__ = HOSTILE


def circle():
    """A list, a dict and an object that hold themselves and each other."""
    items, names, thing = [], {}, Thing()
    items.extend([items, names, thing] * 1000)
    names.update({HOSTILE: names, "value": items, "settings": names})
    thing.value = thing.settings = thing
    return thing


def serve(worker):
    """What a worker does, by its own word."""
    for req in (None, 7, Thing(method=HOSTILE, uri="/" + "x" * 100000, path=HOSTILE)):
        try:
            worker.handle_request(None, req, None, None)
            raise type(HOSTILE, (ValueError,), {})(HOSTILE)
        except ValueError as error:
            sys.exc_info()
            worker.handle_error(req, None, None, error)


settings = {
    "proc_name": Thing(value=HOSTILE),
    "workers": Thing(value=10**30),
    "threads": Thing(value=-1),
    "timeout": Thing(value=1),
    "bind": Thing(value=[HOSTILE] * 1000),
    "max_requests": Thing(value=True),
}
arbiter = Arbiter()
arbiter.pid = os.getpid()
arbiter.cfg = Thing(settings=settings)
arbiter.worker_class = Worker
arbiter._num_workers = 2**31
signal.signal(signal.SIGHUP, arbiter.run)
arbiter.turn = lambda: None
# A process of somebody else's, the first of all, this one, and none.
for pid in (claimed, 1, os.getpid(), -1):
    worker = Thing(age=pid, tmp=Thing(_tmp=Thing(name=3)), alive=True, booted=True)
    Arbiter.WORKERS[pid] = worker

if trick == "circles":
    arbiter.cfg = circle()
    arbiter.cfg.settings = arbiter.cfg
    Arbiter.WORKERS[7] = Arbiter.WORKERS
    Arbiter.LISTENERS = circle()
    arbiter.worker_class = type("Worker", (Worker,), {"respond": circle()})
elif trick == "memory":
    # As soon as it is known, what it is known by changes.
    runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))

    def turn():
        Arbiter.WORKERS[os.getpid() + len(Arbiter.WORKERS)] = object()
        arbiter.cfg = circle() if arbiter.cfg is None else None

    arbiter.turn = turn

elif trick == "link":
    # Whoever opens its interpreter by the path gets something else.
    os.unlink(sys.executable)
    os.symlink(secret, sys.executable)
elif trick == "pipe":
    os.unlink(sys.executable)
    os.mkfifo(sys.executable)
elif trick == "program":
    os.unlink(sys.executable)
    shutil.copy("/bin/cat", sys.executable)
elif trick == "mount":
    # In a namespace of its own it may mount what it may not read.
    MS_BIND = 4096
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(secret.encode(), sys.executable.encode(), None, MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")

# Whoever forks is looked at.
child = os.fork()
if child == 0:
    worker = Worker()
    worker.age = 10**20
    while os.getppid() == arbiter.pid:
        if trick == "requests":
            serve(worker)
        time.sleep(0.001)
    os._exit(0)
Arbiter.WORKERS[child] = Worker()
arbiter.run()
