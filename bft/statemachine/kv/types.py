"""What the key-value service holds and answers, and its limits."""

from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final, Self

KEY_BYTES_MAX: Final = 2048
VALUE_BYTES_MAX: Final = 1_000_000  # with a key and the framing this is less than RANGE_BYTES_MAX
RANGE_LIMIT_MAX: Final = 1000
RANGE_BYTES_MAX: Final = 1 << 20
TXN_COMPARES_MAX: Final = 128
TXN_OPERATIONS_MAX: Final = 128  # in each branch
TXN_RESULT_BYTES_MAX: Final = 1 << 20  # of what the reads of a transaction return, about
TTL_NS_MAX: Final = 10**18  # 31 years


@unique
class Opcode(IntEnum):
    """First element of an operation."""

    PUT = 1
    GET = 2
    DELETE = 3
    RANGE = 4
    CAS = 5
    TXN = 6
    EVENTS = 7
    STATUS = 8


@unique
class Target(IntEnum):
    """What of a key a transaction compares."""

    VALUE = 0
    VERSION = 1
    CREATE_REVISION = 2
    MOD_REVISION = 3


@unique
class Relation(IntEnum):
    """How it compares: what is held, on the left, with the operand."""

    EQUAL = 0
    NOT_EQUAL = 1
    LESS = 2
    GREATER = 3


@unique
class EventKind(IntEnum):
    """What happened to a key."""

    PUT = 0
    DELETE = 1
    EXPIRE = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """What is held for a key: `version` counts its writes since it was created."""

    value: bytes
    mod_revision: int
    create_revision: int
    version: int
    expires_ns: int | None = None  # when the service's clock reaches this it is gone; None: never


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """Whether there was something to delete, and the revision of the deletion (0 if not)."""

    deleted: bool
    revision: int


@dataclass(frozen=True, slots=True)
class RangeResult:
    """Entries in key order, as of one revision of the store.

    `next` is where to go on if the limit or the result's size ended the range early, else None.
    """

    items: tuple[tuple[bytes, Entry], ...]
    next: bytes | None
    revision: int  # of the last write to the store; 0: there was none

    @property
    def more(self) -> bool:
        """Whether the range was ended early."""
        return self.next is not None


@dataclass(frozen=True, slots=True)
class CasResult:
    """Whether the key held what was expected, the revision of the write (0 if none), and what it held before."""

    swapped: bool
    revision: int
    previous: Entry | None


_RELATIONS: Final = {
    "==": Relation.EQUAL,
    "!=": Relation.NOT_EQUAL,
    "<": Relation.LESS,
    ">": Relation.GREATER,
}


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition of a transaction.  A key that is not there has no value (None), and 0 for its numbers.

    The relations are "==", "!=", "<" and ">"; ValueError for any other.
    """

    key: bytes
    target: Target
    relation: Relation
    operand: bytes | int | None

    @classmethod
    def exists(cls, key: bytes) -> Self:
        return cls(key, Target.VERSION, Relation.GREATER, 0)

    @classmethod
    def absent(cls, key: bytes) -> Self:
        return cls(key, Target.VERSION, Relation.EQUAL, 0)

    @classmethod
    def value(cls, key: bytes, relation: str, operand: bytes | None) -> Self:
        return cls(key, Target.VALUE, _relation(relation), operand)

    @classmethod
    def version(cls, key: bytes, relation: str, operand: int) -> Self:
        return cls(key, Target.VERSION, _relation(relation), operand)

    @classmethod
    def create_revision(cls, key: bytes, relation: str, operand: int) -> Self:
        return cls(key, Target.CREATE_REVISION, _relation(relation), operand)

    @classmethod
    def mod_revision(cls, key: bytes, relation: str, operand: int) -> Self:
        return cls(key, Target.MOD_REVISION, _relation(relation), operand)


def _relation(text: str) -> Relation:
    if text not in _RELATIONS:
        raise ValueError(f"a relation is one of {' '.join(_RELATIONS)}, not {text}")
    return _RELATIONS[text]


@dataclass(frozen=True, slots=True)
class Put:
    """Part of a transaction: write; with `ttl` in seconds the key is removed after that."""

    key: bytes
    value: bytes
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Get:
    """Part of a transaction: read one key."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Part of a transaction: remove one key."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Range:
    """Part of a transaction: read start <= key < end (None: to the last key)."""

    start: bytes = b""
    end: bytes | None = None
    limit: int = RANGE_LIMIT_MAX


TxnOperation = Put | Get | Delete | Range
TxnPart = int | Entry | DeleteResult | RangeResult | None


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Which branch a transaction took, what its operations returned, and its revision (0 if it wrote nothing)."""

    succeeded: bool
    results: tuple[TxnPart, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key.  Events of one operation have one revision."""

    revision: int
    kind: EventKind
    key: bytes
    entry: Entry | None  # what was written; None unless it is a PUT


@dataclass(frozen=True, slots=True)
class Events:
    """Events in the order of their revisions, all of a revision together; `next` is what to ask for from then on."""

    events: tuple[Event, ...]
    next: int
    expiring: bool  # whether the store holds keys that expire


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """Where the store stands."""

    revision: int  # of the last write; 0: there was none
    oldest: int  # the first revision whose events are all still known
    expiring: int  # keys that expire
