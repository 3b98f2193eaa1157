"""A worker class that handles requests all by itself, as none of Gunicorn's does."""

from datetime import datetime

from gunicorn.http import wsgi
from gunicorn.workers.sync import SyncWorker


class OwnWorker(SyncWorker):
    def handle_request(self, listener, req, client, addr):
        start = datetime.now()
        server = listener.getsockname()
        response, environ = wsgi.create(req, client, addr, server, self.cfg)
        response.force_close()
        body = self.wsgi(environ, response.start_response)
        try:
            for piece in body:
                response.write(piece)
            response.close()
        finally:
            if hasattr(body, "close"):
                body.close()
        self.log.access(response, req, environ, datetime.now() - start)
