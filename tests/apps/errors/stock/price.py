"""What templates ask for."""

from .errors import BadPrice


class Price:
    @property
    def label(self):
        raise BadPrice("no currency")
