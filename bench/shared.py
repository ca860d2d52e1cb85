"""Keys that all callers write and read: what they were told must be one order of what they asked (linearizability).

The order is the one that the replies claim, their sequence numbers and revisions; `bft.testing.linearizability` checks
that it agrees with real time and explains every answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from bft.testing.history import Get, Operation, Put, Witness
from bft.testing.linearizability import Verdict, check_by_witness

KEYS: Final = 8
OPERATIONS_MAX: Final = 500_000  # of a worker that are recorded; afterwards it leaves the shared keys alone

# caller, key, value written (None: a read), invoked, returned (None: unknown), value read, seq, revision of a write
Row: TypeAlias = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """A page of keys, and when it was read."""

    invoked_ns: int
    returned_ns: int
    seq: int
    items: Sequence[tuple[bytes, bytes]]


FIRST: Final = b"shared/"  # before all shared keys
LAST: Final = b"shared0"  # after them


def key_of(number: int) -> bytes:
    """The name of a shared key."""
    return b"shared/%d" % number


def padded(value: bytes, size: int) -> bytes:
    """As it is stored: no shorter than the values of other keys."""
    return value.ljust(size, b".")


def unpadded(value: bytes | None, size: int) -> bytes | None:
    """What was written; a value that was padded in another way stays as it is, and is none that anybody wrote."""
    if value is None:
        return None
    stripped = value.rstrip(b".")
    return stripped if padded(stripped, size) == value else value


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


def ranked(history: Iterable[Operation]) -> list[Operation]:
    """The history of a store whose reads name the last write before them: each gets a place of its own after it.

    Reads of one place are put in the order of their invocations, which is one that real time cannot contradict.
    """

    def place(operation: Operation) -> tuple[int, bool, int, int]:
        witness = operation.witness or Witness(0)
        return witness.seq, witness.index is None, witness.index or 0, operation.invoked_ns

    told = sorted((o for o in history if o.witness is not None), key=place)
    unknown = [o for o in history if o.witness is None]
    return [*(replace(o, witness=Witness(rank, 0)) for rank, o in enumerate(told, 1)), *unknown]


def final_reads(history: Sequence[Operation], pages: Sequence[Reading], value_size: int) -> list[Operation]:
    """A read of each key of the history, by whoever read all of them back after the load."""
    keys = {operation.action.key for operation in history if isinstance(operation.action, Get | Put)}
    held = {key: (value, page) for page in pages for key, value in page.items}
    reads = []
    for key in sorted(keys):
        value, page = held.get(key, (None, pages[-1]))
        found, witness = unpadded(value, value_size), Witness(page.seq, None)
        reads.append(Operation("whoever reads back", Get(key), page.invoked_ns, page.returned_ns, found, witness))
    return reads


def judge(history: Sequence[Operation]) -> Verdict:
    """Whether the history is linearizable."""
    return check_by_witness(history)
