"""What the callers ask: mixes of reads, writes and scans of the key-value service, or a workload of one's own.

`ycsb-a` to `ycsb-f` are the core workloads of YCSB (Cooper et al., SoCC'10).  Popular keys follow Zipf's law with its
exponent 0.99.  Two things differ, so that every answer can be checked: with D and E it is each caller's own keys that
are popular, new or scanned; with F a read and the write of the same key count as two operations.
"""

import random
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import ClassVar, Final

from bench.loading import load
from bft.errors import ConfigurationError

KV_PUT: Final = "kv-put"
KEY_VALUE_SERVICE: Final = "bft.statemachine.kv:KeyValue"
_ZIPF_EXPONENT: Final = 0.99
SCAN_MAX: Final = 100  # keys of one scan; YCSB's own bound


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the operations; the rest are writes of keys that exist."""

    reads: float
    inserts: float = 0.0  # writes of keys that did not exist
    scans: float = 0.0
    writes_follow_reads: bool = False  # a write is of the key that was just read
    latest: bool = False  # reads are of what was inserted last, most likely


YCSB: Final = {
    "ycsb-a": Mix(reads=0.5),
    "ycsb-b": Mix(reads=0.95),
    "ycsb-c": Mix(reads=1.0),
    "ycsb-d": Mix(reads=0.95, inserts=0.05, latest=True),
    "ycsb-e": Mix(reads=0.0, inserts=0.05, scans=0.95),
    "ycsb-f": Mix(reads=2 / 3, writes_follow_reads=True),  # half reads, half a read with a write
}


class Workload(ABC):
    """Operations of any service.  One object for each caller."""

    service: ClassVar[str] = KEY_VALUE_SERVICE  # what a throw-away cluster runs for it

    def __init__(self, caller: int, chance: random.Random, value_size: int) -> None:
        self.caller = caller
        self.chance = chance  # seeded by the caller's number
        self.value_size = value_size  # as --value-size says; what that means is the workload's affair

    def setup(self) -> Iterable[bytes]:
        """Operations to carry out before the warm-up, in turn."""
        return ()

    @abstractmethod
    def next(self) -> tuple[str, bytes]:
        """The next operation, and its kind: a word for the tables.  It is called when the one before was answered."""

    def wrong(self, operation: bytes, value: bytes) -> str | None:
        """What is wrong with an answer; a run with a wrong one is not safe."""
        return None


class Null(Workload):
    """Operations that do nothing and carry `value_size` bytes: what ordering alone costs."""

    service: ClassVar[str] = "bench.null_service:Null"

    def next(self) -> tuple[str, bytes]:
        return "null", bytes(self.value_size)

    def wrong(self, operation: bytes, value: bytes) -> str | None:
        return "an operation that answers nothing answered something" if value else None


_NAMED: Final = {"null": "bench.workloads:Null"}


def mix_of(name: str, *, reads: float) -> Mix | None:
    """The mix of a key-value workload; None: the workload is `find`'s."""
    return Mix(reads=reads) if name == KV_PUT else YCSB.get(name)


def find(name: str) -> type[Workload]:
    """A workload by its name or its class.  Raises ConfigurationError."""
    if ":" not in (place := _NAMED.get(name, name)):
        known = ", ".join((KV_PUT, *YCSB, *_NAMED))
        raise ConfigurationError(f'--workload "{name}": write one of {known}, or module:Class')
    return load("--workload", place, Workload)  # type: ignore[type-abstract]  # what is found is concrete


class Zipf:
    """Ranks below a count, rank 0 the most likely, as Zipf's law says."""

    def __init__(self, count: int) -> None:
        self._sums = _sums(count)

    def rank(self, chance: random.Random) -> int:
        return bisect(self._sums, chance.random() * self._sums[-1], hi=len(self._sums) - 1)


@lru_cache(maxsize=8)
def _sums(count: int) -> list[float]:
    return list(accumulate(1 / rank**_ZIPF_EXPONENT for rank in range(1, count + 1)))
