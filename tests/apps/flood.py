"""A worker class that answers faster than any application could: requests of one length, which it
does not look at, until the client has enough. Its clients send many at once."""

from socket import MSG_WAITALL

from gunicorn.workers.sync import SyncWorker

# As `tests/src/flood.rs` has it.
REQUEST = b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


class FloodWorker(SyncWorker):
    def handle(self, listener, client, addr):
        receive, send, length = client.recv, client.sendall, len(REQUEST)
        while receive(length, MSG_WAITALL):
            send(ANSWER)
        client.close()

    def handle_request(self, listener, req, client, addr):
        raise NotImplementedError("it has its own, so that its system calls tell of its requests")


def app(environ, start_response):
    raise NotImplementedError("never called")
