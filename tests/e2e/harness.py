"""A cluster of real replica processes, as its operator handles it, and load as its clients make it."""

import asyncio
import contextlib
import io
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bft.cli import main
from bft.client import Client
from bft.errors import BftError
from deploy import launcher

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
ENVIRONMENT.pop("BFT_CLUSTER", None)
CALLERS = 8


@dataclass(frozen=True)
class Cluster:
    """A cluster of real processes, handled as its operator would."""

    directory: Path
    n: int = 4

    def bft(self, *arguments: str | Path, code: int = 0) -> str:
        """Carry out a command line, which must end with this exit code; what it printed.

        In this process: starting Python a hundred times would be most of the tests' time.
        """
        with redirected() as printed:
            ended = main.run([str(argument) for argument in arguments])
        assert ended == code, f"{arguments} ended with {ended}\n{printed()}"
        return printed()

    def up(self, *arguments: str) -> str:
        return self.bft("cluster", "up", self.directory, *arguments)

    def status(self) -> dict[str, Any]:
        with redirected() as printed:
            main.run(["cluster", "status", str(self.directory), "--json"])
        status: dict[str, Any] = json.loads(printed())
        return status

    def replica(self, replica: int) -> Path:
        return self.directory / f"replica-{replica}"

    def pid(self, replica: int) -> int:
        process = launcher.find(self.replica(replica))
        assert process is not None, f"replica {replica} does not run"
        return process.pid


@contextlib.contextmanager
def redirected() -> Iterator[Callable[[], str]]:
    """What the block prints goes nowhere but to the function that it is given."""
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, write_through=True)

    def printed() -> str:
        stream.flush()  # and holds it: a wrapper that goes closes its buffer
        return buffer.getvalue().decode()

    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield printed


def kill(cluster: Cluster, replica: int) -> None:
    """`kill -9`; returns when the process is gone."""
    os.kill(cluster.pid(replica), signal.SIGKILL)
    wait_until(lambda: launcher.find(cluster.replica(replica)) is None)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what must happen; the test's time-out ends a wait in vain."""
    while not condition():
        time.sleep(0.1)


@dataclass
class Load:
    """What callers did so far."""

    done: dict[bytes, bytes] = field(default_factory=dict)  # acknowledged, and read back
    errors: list[str] = field(default_factory=list)

    async def grows(self, *, by: int) -> None:
        """Wait until so many more writes were acknowledged and read back, without an error."""
        wanted = len(self.done) + by
        while len(self.done) < wanted:
            assert self.errors == []
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def load(client: Client) -> AsyncIterator[Load]:
    """Callers that write and read back what they wrote, until the block ends; any error fails the test."""
    seen = Load()
    stop = asyncio.Event()

    async def call(caller: int) -> None:
        number = 0
        while not stop.is_set():
            key, value = f"{caller}/{number:06}".encode(), f"value {number}".encode()
            number += 1
            try:
                await client.put(key, value)
                entry = await client.get(key)
            except BftError as error:
                seen.errors.append(f"{type(error).__name__}: {error}")
                return
            if entry is None or entry.value != value:
                seen.errors.append(f"{key!r} does not hold what was written")
            seen.done[key] = value

    async with asyncio.TaskGroup() as callers:
        for caller in range(CALLERS):
            callers.create_task(call(caller))
        try:
            yield seen
        finally:
            stop.set()
    assert seen.errors == []


async def read_back(client: Client) -> dict[bytes, bytes]:
    """Everything that the cluster holds."""
    held: dict[bytes, bytes] = {}
    start, more = b"", True
    while more:
        page = await client.range(start)
        held |= {key: entry.value for key, entry in page.items}
        start, more = page.items[-1][0] + b"\0", page.more
    return held
