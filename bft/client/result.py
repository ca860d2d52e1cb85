"""What a call returns."""

from typing import NamedTuple


class Result(NamedTuple):
    """The answer to one operation, reported by at least one correct replica."""

    value: bytes  # what the service returned
    seq: int  # the sequence number at which it executed: the same at every replica
