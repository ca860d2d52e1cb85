"""What the benchmark needs of a system that it measures beside us.  An adapter is one class that keeps to this.

`bench.systems.etcd` is an example; `--system your.module:Class` measures one of your own.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol


class Written(NamedTuple):
    """The answer to a write: its place in the system's own order of all operations."""

    seq: int  # grows with the order
    revision: int  # of the write; grows from write to write


class Found(NamedTuple):
    """The answer to a read."""

    seq: int  # its place in the order, or that of the last write before it
    value: bytes | None


class Page(NamedTuple):
    """The answer to a scan: a part of the keys, in their order."""

    seq: int
    items: list[tuple[bytes, bytes]]
    more: bool  # whether there are keys after the last of these


class Session(Protocol):
    """One client's connection, for many callers at once; all of it linearizable.

    Raises BftError when an operation has no answer: a write may then have happened, or may still.
    """

    async def put(self, key: bytes, value: bytes) -> Written: ...

    async def get(self, key: bytes) -> Found: ...

    async def scan(self, start: bytes, limit: int) -> Page:
        """At most `limit` keys from `start` on."""


class System(ABC):
    """A key-value store on this machine.  Made anew, for the same directory, in each process of the load."""

    name: ClassVar[str]
    withstands: ClassVar[str]  # what it promises to survive, in a few words

    def __init__(self, directory: Path) -> None:
        self.directory = directory  # all that it writes is in here, and goes with it

    @classmethod
    def lacks(cls) -> str | None:
        """What this machine needs first, in words that say what to do; None: nothing."""
        return None

    @abstractmethod
    def running(self, durability: str) -> AbstractAsyncContextManager[list[int]]:
        """Start it; the process ids of its members.  Nothing of it runs when the block has ended, however it ends."""

    @abstractmethod
    def session(self, client: int) -> AbstractAsyncContextManager[Session]:
        """Connect client number `client`, while it runs."""
