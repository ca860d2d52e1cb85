"""`python -m bench.proxy`: directed links between replicas that can be slow, narrow or cut.

in:   [[from, to, host, port], ...] in one line; then one order a line: {"cut": [[from, to], ...]}, {"mend": [...]},
      {"delay_ms": D, "mbit": M}; end of file: end
out:  [[from, to, port], ...], where each listens; then a line for each order that was carried out
"""

import asyncio
import contextlib
import json
import sys
import time
from typing import Any, Final

_READ_BYTES: Final = 65_536
_CHUNKS_MAX: Final = 256  # under way in one direction of a connection: 16 MiB at most, then the sender waits


class Line:
    """What all connections of one directed link share."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.delay_s = 0.0
        self.bytes_per_s = 0.0  # 0: no limit
        self.whole = asyncio.Event()
        self.whole.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until one of the ends closes it."""
        try:
            await self.whole.wait()
            onward = await asyncio.open_connection(self.host, self.port)
        except OSError:  # nobody listens: so this end closes, too
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                for source, sink in ((reader, onward[1]), (onward[0], writer)):
                    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_MAX)
                    tasks.create_task(self._take(source, under_way))
                    tasks.create_task(self._deliver(under_way, sink))
        except* OSError:
            pass
        finally:
            for each in (writer, onward[1]):
                each.close()

    async def _take(self, source: asyncio.StreamReader, under_way: "asyncio.Queue[tuple[float, bytes]]") -> None:
        """Take what comes at once, and say when it is due."""
        free_s = 0.0  # when the line has sent what it took
        while data := await source.read(_READ_BYTES):
            free_s = max(time.monotonic(), free_s) + (len(data) / self.bytes_per_s if self.bytes_per_s else 0.0)
            await under_way.put((free_s + self.delay_s, data))
        await under_way.put((0.0, b""))

    async def _deliver(self, under_way: "asyncio.Queue[tuple[float, bytes]]", sink: asyncio.StreamWriter) -> None:
        """Ends with ConnectionError, so that the other direction ends as well."""
        while True:
            due_s, data = await under_way.get()
            if not data:
                raise ConnectionError
            if (left := due_s - time.monotonic()) > 0:
                await asyncio.sleep(left)
            await self.whole.wait()
            sink.write(data)
            await sink.drain()


def obey(lines: dict[tuple[int, int], Line], order: dict[str, Any]) -> None:
    """Carry out one order."""
    for sender, receiver in order.get("cut", ()):
        lines[sender, receiver].whole.clear()
    for sender, receiver in order.get("mend", ()):
        lines[sender, receiver].whole.set()
    if "delay_ms" in order:
        for line in lines.values():
            line.delay_s, line.bytes_per_s = order["delay_ms"] / 1000, order["mbit"] * 125_000


async def _main() -> None:
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    lines: dict[tuple[int, int], Line] = {}
    ports = []
    async with contextlib.AsyncExitStack() as stack:
        for sender, receiver, host, port in json.loads(await orders.readline()):
            line = lines[sender, receiver] = Line(host, port)
            server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
            stack.callback(server.close)
            ports.append([sender, receiver, server.sockets[0].getsockname()[1]])
        _say(ports)
        while order := await orders.readline():
            obey(lines, json.loads(order))
            _say([])
        loop.set_exception_handler(lambda *_: None)  # connections that the end breaks off are no news


def _say(document: list[Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
