"""A program that has Gunicorn in it, as its documentation shows for custom applications. Nothing
in its command line says so but the options it passes on."""

import sys

from gunicorn.app.base import BaseApplication
from gunicorn.config import Config


class Shop(BaseApplication):
    def __init__(self, words):
        self.words = words
        super().__init__()

    def load_config(self):
        parser = Config().parser()
        options = vars(parser.parse_args(self.words))
        sys.path.insert(0, options.pop("pythonpath"))
        options.pop("args")
        for name, value in options.items():
            if value is not None:
                self.cfg.set(name, value)

    def load(self):
        from cell import app

        return app


if __name__ == "__main__":
    Shop(sys.argv[1:]).run()
