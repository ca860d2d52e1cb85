"""Key-value histories: what clients asked for, when, and what they were told.

An operation that the service refused (`ApplicationError`) changed nothing and has no place in a history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Put:
    """Result: None."""

    key: bytes
    value: bytes

    def __str__(self) -> str:
        return f"put {self.key!r} {self.value!r}"


@dataclass(frozen=True, slots=True)
class Get:
    """Result: the value, None if there is none."""

    key: bytes

    def __str__(self) -> str:
        return f"get {self.key!r}"


@dataclass(frozen=True, slots=True)
class Delete:
    """Result: whether there was something to delete."""

    key: bytes

    def __str__(self) -> str:
        return f"delete {self.key!r}"


@dataclass(frozen=True, slots=True)
class Cas:
    """Result: `Swap`.  None is absence, so it also creates and deletes."""

    key: bytes
    expected: bytes | None
    new: bytes | None

    def __str__(self) -> str:
        return f"cas {self.key!r} {self.expected!r} -> {self.new!r}"


@dataclass(frozen=True, slots=True)
class Range:
    """start <= key < end (None: to the last key).  Result: `Listing`."""

    start: bytes
    end: bytes | None = None

    def __str__(self) -> str:
        return f"range {self.start!r} {self.end!r}"

    def covers(self, key: bytes) -> bool:
        return self.start <= key and (self.end is None or key < self.end)


class Swap(NamedTuple):
    """Whether a compare-and-swap wrote, and what it found."""

    swapped: bool
    previous: bytes | None


class Listing(NamedTuple):
    """Keys and values in key order; `more` if a limit ended the range early."""

    items: tuple[tuple[bytes, bytes], ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Witness:
    """Where in the agreed order an operation was executed, as its reply says."""

    seq: int
    index: int | None = None  # any number that grows within the batch, such as a write's revision; None: not known

    def __str__(self) -> str:
        return f"seq {self.seq}" if self.index is None else f"seq {self.seq} index {self.index}"


Action = Put | Get | Delete | Cas | Range
Observed = bytes | Swap | Listing | bool | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one client.  Times are of one clock; of equal times nothing is concluded."""

    client: str
    action: Action
    invoked_ns: int
    returned_ns: int | None = None  # None: outcome unknown, it may take effect at any time after invocation, or never
    result: Observed = None  # None also where the outcome is unknown
    witness: Witness | None = None

    def __post_init__(self) -> None:
        if self.returned_ns is not None and self.returned_ns < self.invoked_ns:
            raise ValueError(f"{self.action} returned before it was invoked")
