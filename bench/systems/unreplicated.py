"""Our own service without replication and signatures, in one process: what everything else is paid on top of."""

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator
from typing import ClassVar, Final, cast

from bench.systems.certificates import Files, make
from bench.systems.interface import Found, Page, Session, System, Written
from bench.systems.program import program, until
from bench.systems.unreplicated_server import ANSWER, LENGTH, NUMBER
from bft.client.result import Result
from bft.errors import ApplicationError, Timeout
from bft.statemachine import kv
from crypto.tls import client_context

_TIMEOUT_S: Final = 10.0
_OK: Final = b"\0"  # the first byte of a result


class Unreplicated(System):
    """`bench.systems.unreplicated_server`."""

    name: ClassVar[str] = "unreplicated"
    withstands: ClassVar[str] = "power cut"

    @contextlib.asynccontextmanager
    async def running(self, durability: str) -> AsyncIterator[list[int]]:
        """Raises EnvironmentFailure."""
        self.directory.mkdir(parents=True, exist_ok=True)
        make(self.directory)
        log = self.directory / "server.log"
        command = [sys.executable, "-m", "bench.systems.unreplicated_server", str(self.directory), durability]
        async with program(command, log) as process:
            await until(self._answers, [process], log)
            yield [process.pid]

    @contextlib.asynccontextmanager
    async def session(self, client: int) -> AsyncIterator[Session]:
        files = Files.within(self.directory)
        context = client_context(certificate=files.certificate, key=files.key, ca=files.ca)
        port = int(await asyncio.to_thread((self.directory / "port").read_text))
        loop = asyncio.get_running_loop()
        transport, link = await loop.create_connection(_Link, "127.0.0.1", port, ssl=context)
        try:
            yield _Session(link)
        finally:
            transport.abort()

    async def _answers(self) -> bool:
        return (self.directory / "port").exists()


class _Link(asyncio.Protocol):
    """Requests under way, each with whoever waits for its answer."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._numbers = itertools.count()
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Timeout("the unreplicated server closed the connection", ambiguous=True))

    def data_received(self, data: bytes) -> None:
        received, at = self._received, 0
        received += data
        while len(received) - at >= ANSWER.size:
            length, number, seq = ANSWER.unpack_from(received, at)
            end = at + LENGTH.size + length
            if len(received) < end:
                break
            future = self._waiting.pop(number, None)
            if future is not None and not future.done():
                future.set_result((seq, bytes(received[at + ANSWER.size : end])))
            at = end
        del received[:at]

    async def call(self, operation: bytes) -> tuple[int, bytes]:
        if self._transport is None:
            raise Timeout("the unreplicated server closed the connection", ambiguous=False)
        number = next(self._numbers)
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._transport.write(LENGTH.pack(NUMBER.size + len(operation)) + NUMBER.pack(number) + operation)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await future
        except TimeoutError:
            raise Timeout("the unreplicated server did not answer", ambiguous=True) from None
        finally:
            self._waiting.pop(number, None)


class _Session:
    """The key-value operations over a link."""

    def __init__(self, link: _Link) -> None:
        self._link = link

    async def put(self, key: bytes, value: bytes) -> Written:
        result = await self._call(kv.encode_put(key, value))
        return Written(result.seq, kv.decode_put(result.value))

    async def get(self, key: bytes) -> Found:
        result = await self._call(kv.encode_get(key))
        entry = kv.decode_get(result.value)
        return Found(result.seq, None if entry is None else entry.value)

    async def scan(self, start: bytes, limit: int) -> Page:
        result = await self._call(kv.encode_range(start, None, limit))
        page = kv.decode_range(result.value)
        return Page(result.seq, [(key, entry.value) for key, entry in page.items], page.more)

    async def _call(self, operation: bytes) -> Result:
        seq, result = await self._link.call(operation)
        if not result.startswith(_OK):
            raise ApplicationError("refused", repr(result[1:]))
        return Result(result[1:], seq)
