"""Lets go wrong what is to go wrong, when it is to, and remembers when it really did."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from bench.cluster import Cluster
from bench.faults import Event, Fault
from bench.links import Links, Profile
from bench.options import Options
from bft.errors import BftError


@dataclass(slots=True)
class Mark:
    """Something that went wrong, in seconds of the measurement."""

    name: str
    begin_s: float
    end_s: float | None = None  # None: it lasted to the end, or took no time

    def document(self) -> dict[str, Any]:
        return {"name": self.name, "begin_s": self.begin_s, "end_s": self.end_s}


@dataclass(frozen=True, slots=True)
class _Turn:
    """One thing to do."""

    at_s: float
    mark: Fault | Event
    begins: bool


class Injector:
    """Everything that one run's options ask for."""

    def __init__(self, options: Options, cluster: Cluster, links: Links | None, report: Callable[[str], None]) -> None:
        self._options = options
        self._cluster = cluster
        self._links = links
        self._report = report
        self._begin_s = 0.0
        self._paused: set[int] = set()
        self.marks: list[Mark] = [Mark(fault.name, 0.0) for fault in options.faults if fault.at_s is None]
        self._open: dict[Fault | Event, Mark] = {}
        self.failure: BftError | None = None  # the run cannot be what was asked for

    @contextlib.asynccontextmanager
    async def running(self, begin_s: float) -> AsyncIterator[None]:
        """Begin at `begin_s` (CLOCK_MONOTONIC).  When the block ends, all is healed that can be, without a mark."""
        self._begin_s = begin_s
        task = asyncio.ensure_future(self._run())
        try:
            yield
        finally:
            if not task.done() and all(turn.at_s <= time.monotonic() - begin_s for turn in self._turns()):
                await asyncio.wait([task])  # a replica that is being started again
            task.cancel()
            await asyncio.wait([task])
            await self._heal()
        if not task.cancelled() and (bug := task.exception()) is not None:
            raise bug
        if self.failure is not None:
            raise self.failure

    def _turns(self) -> list[_Turn]:
        end_s = self._options.duration_s
        turns = []
        everything: list[Fault | Event] = [*self._options.faults, *self._options.events]
        for one in everything:
            if one.at_s is not None:
                turns.append(_Turn(one.at_s, one, begins=True))
                if one.until_s is not None and one.until_s < end_s:
                    turns.append(_Turn(one.until_s, one, begins=False))
        return sorted(turns, key=lambda turn: turn.at_s)

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:  # what takes long, as a start does, delays nothing else
                for turn in self._turns():
                    await asyncio.sleep(max(0.0, self._begin_s + turn.at_s - time.monotonic()))
                    tasks.create_task(self._take(turn))
        except* BftError as group:
            self.failure = next(error for error in group.exceptions if isinstance(error, BftError))

    async def _take(self, turn: _Turn) -> None:
        what = turn.mark
        self._report(f"{what.name}{'' if turn.begins else ' ends'}")
        if turn.begins:
            mark = self._open[what] = Mark(what.name, self._now())
            self.marks.append(mark)
        await (self._begin(what) if turn.begins else self._end(what))
        if not turn.begins or (isinstance(what, Event) and what.kind == "restart"):
            self._open[what].end_s = self._now()

    def _now(self) -> float:
        return round(time.monotonic() - self._begin_s, 3)

    async def _begin(self, what: Fault | Event) -> None:
        cluster, replica = self._cluster, what.replica
        if isinstance(what, Fault):
            cluster.misbehave(what.replica)
        elif replica is None:
            await self._change_links(what, begins=True)
        elif what.kind == "pause":
            cluster.pause(replica)
            self._paused.add(replica)
        elif what.kind == "crash":
            await cluster.crash(replica)
        else:
            await cluster.stop(replica)
            await cluster.start(replica, durability=self._options.durability)

    async def _end(self, what: Fault | Event) -> None:
        cluster, replica = self._cluster, what.replica
        if isinstance(what, Fault):
            cluster.misbehave(what.replica)
        elif replica is None:
            await self._change_links(what, begins=False)
        elif what.kind == "pause":
            cluster.resume(replica)
            self._paused.discard(replica)
        else:
            await cluster.start(replica, durability=self._options.durability)

    async def _change_links(self, event: Event, *, begins: bool) -> None:
        if self._links is None:
            raise RuntimeError("a run with such an event has proxies")
        if event.kind == "partition":
            cut = event.cut(self._options.replicas)
            await (self._links.cut(cut) if begins else self._links.mend(cut))
        else:
            usual = self._options.network or Profile()
            await self._links.become(Profile.parse(event.target) if begins else usual)

    async def _heal(self) -> None:
        """The verdict needs replicas that can catch up; only a crash without an end stays."""
        for replica in sorted(self._paused):
            with contextlib.suppress(BftError, ProcessLookupError):
                self._cluster.resume(replica)
        self._paused.clear()
        ended = {what for what, mark in self._open.items() if mark.end_s is not None}
        for what in self._open.keys() - ended:
            if isinstance(what, Event) and what.until_s is not None and what.kind != "pause":
                with contextlib.suppress(BftError):
                    await self._end(what)
