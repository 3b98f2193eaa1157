"""Worker classes of one's own that hand each request on to Gunicorn's: those are still timed in
Python, under the name of the class."""

from gunicorn.workers.ggevent import GeventWorker
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker


class Counting:
    """Its method comes first, and its frame lies below Gunicorn's."""

    handled = 0

    def handle_request(self, *args):
        self.handled += 1
        return super().handle_request(*args)


class TillSync(Counting, SyncWorker):
    pass


class TillThread(Counting, ThreadWorker):
    pass


class TillGevent(GeventWorker):
    def handle_request(self, *args):
        return super().handle_request(*args)
