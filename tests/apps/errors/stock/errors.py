"""Classes of exceptions, with all that their names can be."""


class OutOfStock(Exception):
    pass


class OutOfCredit(Exception):
    """A shop's own error handler answers it."""


class LookupFailed(Exception):
    pass


class AuditFailed(Exception):
    pass


class BadPrice(Exception):
    pass


class StreamFailed(Exception):
    pass


class Überlauf(Exception):
    pass


LONG = type("Long" + "Name" * 74, (Exception,), {})
QUOTED = type('Quo"ted\\\nName', (Exception,), {})
