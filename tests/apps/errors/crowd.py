"""A thousand requests at once, of which every tenth fails in a way of its own; for gevent's worker."""

import gevent
from gevent.event import Event

CROWD = 1000
LETTERS = "abcdefghij"
WORDS = [first + second for first in LETTERS for second in LETTERS]
# A class and a function for each.
FAULT = """
class Fault{word}(Exception):
    pass


def fail_{word}():
    recover()
    raise Fault{word}("{word}")
"""


def recover():
    """Handles an exception while others come and go."""
    try:
        return {}["recovered"]
    except KeyError:
        gevent.sleep(0)
        return "recovered"


for word in WORDS:
    exec(compile(FAULT.format(word=word), __file__, "exec"))

here = 0
everyone = Event()


def wait_for_the_crowd():
    global here
    here += 1
    if here == CROWD:
        everyone.set()
    everyone.wait()


def answer(start_response, status):
    start_response(status, [("Content-Length", "0")])
    return []


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fence":
        return answer(start_response, "200 OK")
    if path == "/starts-capture":
        return answer(start_response, "500 Internal Server Error")
    wait_for_the_crowd()
    if path == "/fine":
        recover()
        return answer(start_response, "200 OK")
    # Half of them leave the application.
    word = path[-2:]
    if word[1] in "acegi":
        return answers_itself(word, start_response)
    return globals()["fail_" + word]()


def answers_itself(word, start_response):
    try:
        return globals()["fail_" + word]()
    except Exception:
        gevent.sleep(0)
        return answer(start_response, "500 Internal Server Error")
