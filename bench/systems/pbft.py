"""Sessions of our own clusters, as the load uses them: the public SDK behind the interface of all systems."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

import bft
from bench.systems.interface import Found, Page, Written
from bft.client import Client, ClientSettings
from bft.client.kv import read
from bft.client.result import Result
from bft.statemachine import kv
from bft.testing.unsigned import signatures_left_out

_OPEN_S: Final = 30.0


class PbftSession:
    """One client's session; what callers do at once, the SDK bundles."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, operation: bytes) -> Result:
        """An operation of any service."""
        return await self._client.call(operation)

    async def put(self, key: bytes, value: bytes) -> Written:
        result = await self._client.call(kv.encode_put(key, value))
        return Written(result.seq, read(kv.decode_put, result))

    async def get(self, key: bytes) -> Found:
        result = await self._client.call(kv.encode_get(key))
        entry = read(kv.decode_get, result)
        return Found(result.seq, None if entry is None else entry.value)

    async def scan(self, start: bytes, limit: int) -> Page:
        result = await self._client.call(kv.encode_range(start, None, limit))
        page = read(kv.decode_range, result)
        return Page(result.seq, [(key, entry.value) for key, entry in page.items], page.more)


@contextlib.asynccontextmanager
async def session(cluster: str, settings: ClientSettings | None = None) -> AsyncIterator[PbftSession]:
    """Connect to the cluster whose files are in this directory.  Raises BftError."""
    async with bft.connect(cluster, timeout=_OPEN_S, settings=settings or ClientSettings()) as client:
        yield PbftSession(client)


@contextlib.contextmanager
def signing(*, left_out: bool) -> Iterator[None]:
    """Whether this process signs and verifies meanwhile, as the cluster that it speaks to does."""
    with signatures_left_out() if left_out else contextlib.nullcontext():
        yield
