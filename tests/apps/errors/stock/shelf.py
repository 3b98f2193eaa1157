"""The upper half of a deep chain of calls."""

from . import ledger


class Missing(Exception):
    """The ledger has one of the same name."""


class Shelf:
    def take(self, name):
        return self._pick(name, 3)

    def _pick(self, name, depth):
        if depth:
            return self._pick(name, depth - 1)
        return ledger.Ledger().enter(name)


def order(name):
    return Shelf().take(name)


def find(name):
    raise Missing(name)
