"""`python -m bench.systems.unreplicated_server DIR DURABILITY`: our key-value service in one process, for comparison.

It executes with the same code as a replica, speaks mutual TLS and syncs what came together once, before it answers.  It
signs nothing and has no copy.  It writes a log that a database would recover from, and never reads it.

    request: u32 length of the rest | u32 number | operation
    answer:  u32 length of the rest | u32 number | u64 seq | result
"""

import asyncio
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Final, cast

import uvloop

from bench.systems.certificates import Files
from bft.statemachine.kv import KeyValue
from bft.statemachine.replicated import ReplicatedState
from crypto.tls import server_context

LENGTH: Final = struct.Struct(">I")
NUMBER: Final = struct.Struct(">I")
ANSWER: Final = struct.Struct(">IIQ")
_BYTES_MAX: Final = 4 << 20
_PAUSE_BYTES: Final = 4 << 20  # a client that does not read waits


class _Link(asyncio.Protocol):
    """A client's connection; its requests go to the server in the order in which they come."""

    def __init__(self, waiting: "list[tuple[_Link, bytes, bytes]]", arrived: asyncio.Event) -> None:
        self._waiting, self._arrived = waiting, arrived
        self._received = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it
        self.transport.set_write_buffer_limits(high=_PAUSE_BYTES)

    def data_received(self, data: bytes) -> None:
        received, at = self._received, 0
        received += data
        while len(received) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(received, at)
            if not NUMBER.size <= length <= _BYTES_MAX:
                if self.transport is not None:
                    self.transport.abort()
                return
            end = at + LENGTH.size + length
            if len(received) < end:
                break
            body = at + LENGTH.size + NUMBER.size
            self._waiting.append((self, bytes(received[at + LENGTH.size : body]), bytes(received[body:end])))
            at = end
        del received[:at]
        if self._waiting:
            self._arrived.set()

    def pause_writing(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()


async def serve(directory: Path, durability: str) -> None:
    """Serve until cancelled; the port is in DIR/port once there is one."""
    loop = asyncio.get_running_loop()
    waiting: list[tuple[_Link, bytes, bytes]] = []
    arrived = asyncio.Event()
    files = Files.within(directory)
    context = server_context(certificate=files.certificate, key=files.key, ca=files.ca)
    server = await loop.create_server(lambda: _Link(waiting, arrived), "127.0.0.1", 0, ssl=context)
    log = os.open(directory / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    port = directory / "port.new"
    port.write_text(str(server.sockets[0].getsockname()[1]))
    port.rename(directory / "port")
    state, seq = ReplicatedState(KeyValue()), 0
    while True:
        await arrived.wait()
        arrived.clear()
        taken, waiting[:] = list(waiting), []
        results = []
        for _, _, operation in taken:
            seq += 1
            result = state.apply(operation, client=b"", client_name="", seq=seq, time_ns=time.time_ns())
            results.append((seq, result))
        if durability != "memory":
            record = b"".join(LENGTH.pack(len(operation)) + operation for _, _, operation in taken)
            await asyncio.to_thread(_append, log, record, sync=durability == "fsync")
        for (link, number, _), (at, result) in zip(taken, results, strict=True):
            if link.transport is not None and not link.transport.is_closing():
                length = ANSWER.size - LENGTH.size + len(result)
                link.transport.write(ANSWER.pack(length, *NUMBER.unpack(number), at) + result)


def _append(log: int, record: bytes, *, sync: bool) -> None:
    os.write(log, record)
    if sync:
        os.fdatasync(log)


async def _until_stopped(directory: Path, durability: str) -> None:
    serving = asyncio.ensure_future(serve(directory, durability))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


if __name__ == "__main__":
    uvloop.run(_until_stopped(Path(sys.argv[1]), sys.argv[2]))
