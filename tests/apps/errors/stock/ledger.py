"""The lower half of a deep chain of calls."""

from .errors import OutOfStock


class Missing(Exception):
    """The shelf has one of the same name."""


class Ledger:
    def enter(self, name):
        return [self._subtract(entry) for entry in (name,)]

    def _subtract(self, name):
        raise OutOfStock(name)


def find(name):
    raise Missing(name)
