"""A key-value client that remembers the last result, whose receipt `--receipt FILE` saves."""

import asyncio
from pathlib import Path
from typing import Final

from bft.client import Client, Consistency, KeyValueClient, NoReceipt, Read, Result, Stored

LATE_REPLIES_S: Final = 2.0  # how long to wait for replies that make up for badly signed ones
_PAUSE_S: Final = 0.05


class RecordingClient(KeyValueClient):
    """Asks through another client."""

    __slots__ = ("_client", "last", "read")

    def __init__(self, client: Client) -> None:
        self._client = client
        self.last: Result | None = None
        self.read: Read | None = None  # the last read that could have been had without ordering it

    async def call(self, operation: bytes, *, timeout: float | None = None) -> Result:
        self.last = await self._client.call(operation, timeout=timeout)
        return self.last

    async def query(
        self, operation: bytes, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> Read:
        read = await self._client.query(operation, consistency=consistency, timeout=timeout)
        self.last, self.read = read.result, read
        return read

    async def prove_stored(self, key: bytes, *, max_age: float | None = None, timeout: float | None = None) -> Stored:
        return await self._client.prove_stored(key, max_age=max_age, timeout=timeout)

    async def save_receipt(self, path: Path) -> None:
        """Save the last result's receipt; waits a little for late replies.  Raises NoReceipt or OSError."""
        result = self.last
        if result is None:
            raise NoReceipt("nothing was asked")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LATE_REPLIES_S
        while True:
            try:
                return result.receipt.save(path)
            except NoReceipt as error:
                if loop.time() >= deadline:
                    raise NoReceipt(f"the operation was carried out, but cannot be proven: {error}") from error
            await asyncio.sleep(_PAUSE_S)
