"""The built-in key-value service, typed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from bft.client.result import Result
from bft.errors import ApplicationError
from bft.statemachine import kv
from bft.statemachine.kv import CasResult, DeleteResult, Entry, RangeResult

T = TypeVar("T")


class KeyValueClient(ABC):
    """What a client of a cluster with ``service = "bft.statemachine.kv:KeyValue"`` can ask.

    All of these are ordered like any other operation, reads included, and therefore linearizable.  They raise what
    `call` raises; keys of 1..2048 bytes and values of up to 1,000,000 bytes are accepted.
    """

    __slots__ = ()

    @abstractmethod
    async def call(self, operation: bytes, *, timeout: float | None = None) -> Result:
        """Submit one operation of the service."""

    async def put(self, key: bytes, value: bytes, *, timeout: float | None = None) -> int:
        """Write; the revision of the write, higher than that of every earlier one."""
        return _read(kv.decode_put, await self.call(kv.encode_put(key, value), timeout=timeout))

    async def get(self, key: bytes, *, timeout: float | None = None) -> Entry | None:
        """The entry of ``key``, or None."""
        return _read(kv.decode_get, await self.call(kv.encode_get(key), timeout=timeout))

    async def delete(self, key: bytes, *, timeout: float | None = None) -> DeleteResult:
        """Remove ``key``; whether it was there, and the revision of the deletion."""
        return _read(kv.decode_delete, await self.call(kv.encode_delete(key), timeout=timeout))

    async def range(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        limit: int = kv.RANGE_LIMIT_MAX,
        timeout: float | None = None,
    ) -> RangeResult:
        """Entries with start <= key < end (None: to the last key) in key order, at most ``limit`` (1..1000)."""
        return _read(kv.decode_range, await self.call(kv.encode_range(start, end, limit), timeout=timeout))

    async def cas(
        self, key: bytes, expected: bytes | None, new: bytes | None, *, timeout: float | None = None
    ) -> CasResult:
        """Replace the value ``expected`` by ``new``; None stands for no entry, so this also creates and deletes."""
        return _read(kv.decode_cas, await self.call(kv.encode_cas(key, expected, new), timeout=timeout))


def _read(decode: Callable[[bytes], T], result: Result) -> T:
    try:
        return decode(result.value)
    except ValueError as error:
        raise ApplicationError(
            "bad_result", f"the cluster runs another service than the key-value store: {error}"
        ) from None
