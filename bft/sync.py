"""The SDK for code without an event loop: `bft.sync.connect`, the blocking twin of `bft.connect`.

    with bft.sync.connect("demo") as client:
        client.put(b"greeting", b"hello")

A client runs on a thread of its own and may be used from many threads at once: their calls share bundles.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from bft.client import (
    CasResult,
    Client,
    ClientClosed,
    ClientSettings,
    ClientStatus,
    Compare,
    Consistency,
    DeleteResult,
    Entry,
    Event,
    ProvenEntry,
    RangeResult,
    Read,
    Result,
    Stored,
    StoreStatus,
    TxnOperation,
    TxnResult,
)
from bft.client import connect as connect_async
from bft.statemachine.kv import RANGE_LIMIT_MAX

T = TypeVar("T")

__all__ = ["SyncClient", "connect"]


def connect(
    path: str | Path,
    *,
    identity: str | Path = "default",
    timeout: float | None = None,
    settings: ClientSettings | None = None,
) -> "SyncClient":
    """A blocking client; the arguments and errors are those of `bft.connect`.  Open it with ``with``."""
    return SyncClient(connect_async(path, identity=identity, timeout=timeout, settings=settings))


class SyncClient:
    """Every method does what the method of `Client` with this name does, and waits for it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("a client is opened once")
        loop = asyncio.new_event_loop()
        # A daemon: a program that forgets to close its client must still be able to end.
        self._thread = threading.Thread(target=loop.run_forever, name="bft client", daemon=True)
        self._thread.start()
        self._loop = loop
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Fail the calls under way with ClientClosed and end the thread; idempotent."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(self._shut(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def call(self, operation: bytes, *, timeout: float | None = None) -> Result:
        return self._run(self._client.call(operation, timeout=timeout))

    def status(self) -> ClientStatus:
        return self._run(self._status())

    def put(self, key: bytes, value: bytes, *, ttl: float | None = None, timeout: float | None = None) -> int:
        return self._run(self._client.put(key, value, ttl=ttl, timeout=timeout))

    def query(
        self, operation: bytes, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> Read:
        return self._run(self._client.query(operation, consistency=consistency, timeout=timeout))

    def get(self, key: bytes, *, consistency: Consistency = "ordered", timeout: float | None = None) -> Entry | None:
        return self._run(self._client.get(key, consistency=consistency, timeout=timeout))

    def prove_stored(self, key: bytes, *, max_age: float | None = None, timeout: float | None = None) -> Stored:
        return self._run(self._client.prove_stored(key, max_age=max_age, timeout=timeout))

    def prove(self, key: bytes, *, max_age: float | None = None, timeout: float | None = None) -> ProvenEntry:
        return self._run(self._client.prove(key, max_age=max_age, timeout=timeout))

    def delete(self, key: bytes, *, timeout: float | None = None) -> DeleteResult:
        return self._run(self._client.delete(key, timeout=timeout))

    def range(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        limit: int = RANGE_LIMIT_MAX,
        consistency: Consistency = "ordered",
        timeout: float | None = None,
    ) -> RangeResult:
        found = self._client.range(start, end, prefix=prefix, limit=limit, consistency=consistency, timeout=timeout)
        return self._run(found)

    def scan(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        limit: int = RANGE_LIMIT_MAX,
        timeout: float | None = None,
    ) -> Iterator[tuple[bytes, Entry]]:
        return self._iterate(self._client.scan(start, end, prefix=prefix, limit=limit, timeout=timeout))

    def cas(
        self,
        key: bytes,
        expected: bytes | None,
        new: bytes | None,
        *,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> CasResult:
        return self._run(self._client.cas(key, expected, new, ttl=ttl, timeout=timeout))

    def txn(
        self,
        compare: Sequence[Compare] = (),
        then: Sequence[TxnOperation] = (),
        otherwise: Sequence[TxnOperation] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResult:
        return self._run(self._client.txn(compare, then, otherwise, timeout=timeout))

    def watch(self, prefix: bytes = b"", *, key: bytes | None = None, since: int | None = None) -> Iterator[Event]:
        """As `Client.watch`; each step waits for the next event."""
        return self._iterate(self._client.watch(prefix, key=key, since=since))

    def store_status(self, *, timeout: float | None = None) -> StoreStatus:
        return self._run(self._client.store_status(timeout=timeout))

    def _iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        try:
            while True:
                try:
                    item = self._run(anext(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if self._loop is not None:
                self._run(items.aclose())

    async def _shut(self) -> None:
        await self._client.close()
        await asyncio.get_running_loop().shutdown_asyncgens()
        failing = asyncio.all_tasks() - {asyncio.current_task()}
        if failing:
            await asyncio.wait(failing)  # calls of other threads: each must learn that it failed

    async def _status(self) -> ClientStatus:
        return self._client.status()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        loop = self._loop
        if loop is None:
            coroutine.close()
            raise ClientClosed("the client is not open: with bft.sync.connect(...) as client")
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # interrupted (Ctrl-C): nobody waits for it any more
            raise
