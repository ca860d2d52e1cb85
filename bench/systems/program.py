"""Processes of a measured system: started with their output in a file, ended with the block."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from bft.errors import EnvironmentFailure

_END_S: Final = 5.0
_POLL_S: Final = 0.05


@contextlib.asynccontextmanager
async def program(command: Sequence[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command; it gets SIGTERM when the block ends, and SIGKILL if that is not enough."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us to handle
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def until(
    answers: Callable[[], Awaitable[bool]],
    processes: Sequence[asyncio.subprocess.Process],
    log: Path,
    timeout_s: float = 20.0,
) -> None:
    """Return when it answers.  Raises EnvironmentFailure, with its last words, when it ends or says nothing."""
    deadline = time.monotonic() + timeout_s
    while not await answers():
        if time.monotonic() > deadline or any(process.returncode is not None for process in processes):
            lines = (await asyncio.to_thread(log.read_text, errors="replace")).splitlines() or ["it said nothing"]
            raise EnvironmentFailure(f"it does not start: {lines[-1]}")
        await asyncio.sleep(_POLL_S)
