"""A program that is no Gunicorn at first, and starts one in a child process or becomes one.

The first word says how. With the variable `WAIT_FOR` it makes a file of that name, and goes on
when somebody has removed it.
"""

import os
import signal
import subprocess
import sys
import threading
import time

from embedding import Shop


def forked(words):
    child = os.fork()
    if child == 0:
        Shop(words).run()
    return child


def forked_by_a_thread(words):
    """The thread that forks is the main one of the child."""
    children = []
    thread = threading.Thread(target=lambda: children.append(forked(words)))
    thread.start()
    thread.join()
    return children[0]


def started(words):
    program = os.path.join(os.path.dirname(__file__), "embedding.py")
    return subprocess.Popen([sys.executable, program, *words]).pid


def itself(words):
    Shop(words).run()


WAYS = {
    "fork": forked,
    "thread": forked_by_a_thread,
    "subprocess": started,
    "itself": itself,
}


def wait_for(name):
    if name:
        open(name, "x").close()
        while os.path.exists(name):
            time.sleep(0.01)


def main():
    way, *words = sys.argv[1:]
    wait_for(os.environ.get("WAIT_FOR"))
    child = WAYS[way](words)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
