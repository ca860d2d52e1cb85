"""The SDK for code without an event loop: `bft.sync.connect`, the blocking twin of `bft.connect`.

    with bft.sync.connect("demo") as client:
        client.put(b"greeting", b"hello")

A client runs on a thread of its own and may be used from many threads at once: their calls share bundles.
"""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

from bft.client import (
    CasResult,
    Client,
    ClientClosed,
    ClientSettings,
    ClientStatus,
    DeleteResult,
    Entry,
    RangeResult,
    Result,
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

    def put(self, key: bytes, value: bytes, *, timeout: float | None = None) -> int:
        return self._run(self._client.put(key, value, timeout=timeout))

    def get(self, key: bytes, *, timeout: float | None = None) -> Entry | None:
        return self._run(self._client.get(key, timeout=timeout))

    def delete(self, key: bytes, *, timeout: float | None = None) -> DeleteResult:
        return self._run(self._client.delete(key, timeout=timeout))

    def range(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        limit: int = RANGE_LIMIT_MAX,
        timeout: float | None = None,
    ) -> RangeResult:
        return self._run(self._client.range(start, end, limit=limit, timeout=timeout))

    def cas(self, key: bytes, expected: bytes | None, new: bytes | None, *, timeout: float | None = None) -> CasResult:
        return self._run(self._client.cas(key, expected, new, timeout=timeout))

    async def _shut(self) -> None:
        await self._client.close()
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
