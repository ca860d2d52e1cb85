"""The load generators, seen from the run: started, told when to begin, listened to, ended."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench.options import Options
from bench.plan import Plan
from bench.remote import Offset
from bft.errors import BftError
from deploy import launcher

_LINE_BYTES_MAX: Final = 1 << 20
_END_S: Final = 5.0


class LoadFailed(BftError):
    """A load generator ended before its time; the text is its own."""


class Worker:
    """One process of the load, here or, with a command of its own, wherever that leads."""

    def __init__(self, process: asyncio.subprocess.Process, result: str) -> None:
        self._process = process
        self._result = result  # empty: it comes over the stream, in parts
        self._parts: list[str] = []
        self._offset = Offset()
        self._following: asyncio.Task[None] | None = None
        self.operations = 0
        self.errors = 0

    @classmethod
    async def start(cls, plan: Plan, command: Sequence[str] = (sys.executable, "-m", "bench.worker")) -> "Worker":
        """Raises LoadFailed."""
        try:
            process = await cls._spawn(command)
        except OSError as error:
            raise LoadFailed(f"{shlex.join(command)}: {error.strerror}") from error
        worker = cls(process, plan.result)
        worker._say(plan.json())
        return worker

    @staticmethod
    async def _spawn(command: Sequence[str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES_MAX,
            env=launcher.replica_environment(),
            start_new_session=True,  # Ctrl-C is for us to handle
        )

    async def ready(self) -> None:
        """Connected, and its keys are written; what its clock says is known.  Raises LoadFailed."""
        await self._told()
        if not self._result:
            self._offset = await Offset.measured(self._clock)

    async def _clock(self) -> float:
        self._say("time")
        return float((await self._told())["now"])

    async def _told(self) -> dict[str, Any]:
        line = await self._stream(self._process.stdout).readline()
        if not line:
            await self._raise()
        try:
            told: dict[str, Any] = json.loads(line)
        except ValueError:
            text = line.decode(errors="replace").strip()
            raise LoadFailed(f"a load generator says what none of this version does: {text[:200]}") from None
        return told

    def go(self, begin_s: float) -> None:
        self._say(f"go {begin_s + self._offset.ahead_s!r}")
        self._following = asyncio.create_task(self._follow())

    def stop(self) -> None:
        """Let it finish what it is at, and write its results."""
        with contextlib.suppress(RuntimeError, OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    async def result(self) -> dict[str, Any]:
        """When it has ended.  Raises LoadFailed."""
        if self._following is not None:
            await self._following
        if await self._process.wait() != 0:
            await self._raise()
        text = await asyncio.to_thread(Path(self._result).read_text) if self._result else "".join(self._parts)
        document: dict[str, Any] = await asyncio.to_thread(json.loads, text)
        return self._offset.ours(document)

    async def end(self) -> None:
        """Leave no process behind."""
        if self._following is not None:
            self._following.cancel()
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), _END_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def _follow(self) -> None:
        async for line in self._stream(self._process.stdout):
            report = json.loads(line)
            if "part" in report:
                self._parts.append(report["part"])
            else:
                self.operations, self.errors = report["operations"], report["errors"]

    async def _raise(self) -> None:
        err = (await self._stream(self._process.stderr).read()).decode(errors="replace").splitlines()
        code = await self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise LoadFailed(f"a load generator failed: {err[-1].removeprefix('error: ') if err else how}")

    def _say(self, line: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(line.encode() + b"\n")

    @staticmethod
    def _stream(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
        if stream is None:
            raise LoadFailed("a load generator was started without its streams")
        return stream


@contextlib.asynccontextmanager
async def workers(options: Options, cluster: Path, scratch: Path) -> AsyncIterator[list[Worker]]:
    """One process a core at most, or those that were asked for; each has its share of the clients.

    They end when the block ends: those of other machines when their streams do.
    """
    elsewhere = [shlex.split(command) for command in options.workers]
    count = len(elsewhere) or min(options.clients, len(os.sched_getaffinity(0)))
    started: list[Worker] = []
    try:
        for number in range(count):
            plan = Plan(
                system=options.system,
                cluster=str(cluster),
                result="" if elsewhere else str(scratch / f"load-{number}.json"),
                workload=options.workload,
                zipfian=options.skewed,
                clients=list(range(number, options.clients, count)),
                callers_per_client=options.callers_per_client,
                callers=options.callers,
                bundles_max=None if options.bundle is None else options.inflight,
                bundle_operations_max=options.bundle,
                value_size=options.value_size,
                reads=options.reads,
                keys=options.callers if options.all_shared else options.keys,
                shared=1.0 if options.all_shared else options.shared,
                shared_keys=options.shared_keys,
                warmup_s=options.warmup_s,
                duration_s=options.duration_s,
                rate=None if options.rate is None else (options.rate.first, options.rate.last),
            )
            started.append(await (Worker.start(plan, elsewhere[number]) if elsewhere else Worker.start(plan)))
        yield started
    finally:
        await asyncio.gather(*(worker.end() for worker in started))
