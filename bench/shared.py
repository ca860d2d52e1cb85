"""Keys that all callers write and read: what they were told must be one order of what they asked (linearizability).

The order is the one that the replies claim, their sequence numbers and revisions; `bft.testing.linearizability` checks
that it agrees with real time and explains every answer.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from bft.testing.history import Get, Operation, Put, Witness
from bft.testing.linearizability import Verdict, check_by_witness

KEYS: Final = 8
OPERATIONS_MAX: Final = 100_000  # of a worker that are recorded; afterwards it leaves the shared keys alone

# caller, key, value written (None: a read), invoked, returned (None: unknown), value read, seq, revision of a write
Row: TypeAlias = Sequence[Any]


def key_of(number: int) -> bytes:
    """The name of a shared key."""
    return b"shared/%d" % number


class SharedHistory:
    """What the callers of one worker asked of the shared keys, and what they were told."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._latest = 0

    @property
    def has_room(self) -> bool:
        return len(self._rows) < OPERATIONS_MAX

    def value(self, caller: int) -> bytes:
        """One that was not written before, by nobody."""
        self._latest += 1
        return b"%d.%d" % (caller, self._latest)

    def wrote(
        self, caller: int, key: int, value: bytes, invoked_ns: int, returned_ns: int, *, seq: int, revision: int
    ) -> None:
        self._rows.append((caller, key, value.decode(), invoked_ns, returned_ns, None, seq, revision))

    def read(self, caller: int, key: int, found: bytes | None, invoked_ns: int, returned_ns: int, *, seq: int) -> None:
        text = None if found is None else found.decode(errors="replace")
        self._rows.append((caller, key, None, invoked_ns, returned_ns, text, seq, None))

    def doubtful(self, caller: int, key: int, value: bytes, invoked_ns: int) -> None:
        """A write whose outcome is not known; a read that failed says nothing."""
        self._rows.append((caller, key, value.decode(), invoked_ns, None, None, None, None))

    def document(self) -> list[Row]:
        return self._rows


def operations(rows: Iterable[Row]) -> list[Operation]:
    """Of what `SharedHistory.document` gave."""
    return [_operation(*row) for row in rows]


def _operation(  # noqa: PLR0917 - the columns of a row
    caller: int,
    key: int,
    value: str | None,
    invoked_ns: int,
    returned_ns: int | None,
    found: str | None,
    seq: int | None,
    revision: int | None,
) -> Operation:
    action = Get(key_of(key)) if value is None else Put(key_of(key), value.encode())
    result = found.encode() if found is not None else None
    witness = None if seq is None else Witness(seq, revision)
    return Operation(f"caller {caller}", action, invoked_ns, returned_ns, result, witness)


def judge(history: Sequence[Operation]) -> Verdict:
    """Whether the history is linearizable."""
    return check_by_witness(history)
