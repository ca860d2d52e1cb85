"""Load for the demo: concurrent callers that write, read back what they wrote, and measure."""

import asyncio
import secrets
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from hdrh.histogram import HdrHistogram

from bft.client import Client
from bft.errors import BftError

T = TypeVar("T")

_HIGHEST_US: Final = 120_000_000  # above any time-out
_VALUE_BYTES: Final = 64


def _histogram() -> HdrHistogram:
    return HdrHistogram(1, _HIGHEST_US, 3)


@dataclass(slots=True)
class Measured:
    """What the callers saw in one phase."""

    name: str
    started_s: float = field(default_factory=time.monotonic)
    ended_s: float | None = None
    operations: int = 0
    latency_us: HdrHistogram = field(default_factory=_histogram)

    @property
    def seconds(self) -> float:
        return (time.monotonic() if self.ended_s is None else self.ended_s) - self.started_s

    @property
    def throughput(self) -> float:
        """Operations a second."""
        return self.operations / max(self.seconds, 1e-9)

    def percentile_ms(self, percentile: float) -> float:
        return float(self.latency_us.get_value_at_percentile(percentile)) / 1000


class Load:
    """Callers that go on until told to stop; every failure and every wrong answer is kept."""

    def __init__(self, store: Client, callers: int) -> None:
        self._store = store
        self._callers = callers
        self._stop = False
        self._last_s = time.monotonic()
        self.written: dict[bytes, bytes] = {}  # acknowledged, hence to be found afterwards
        self.errors: list[str] = []
        self.longest_pause_s = 0.0  # without any operation completing
        self.phases: list[Measured] = []

    @property
    def phase(self) -> Measured:
        """The one under way."""
        return self.phases[-1]

    @property
    def operations(self) -> int:
        return sum(phase.operations for phase in self.phases)

    def begin(self, name: str) -> None:
        """End the phase under way and begin another."""
        now = time.monotonic()
        if self.phases:
            self.phase.ended_s = now
        self.phases.append(Measured(name, now))

    def stop(self) -> None:
        """Let every caller finish what it is at."""
        self._stop = True

    async def run(self) -> None:
        """All callers, until `stop`."""
        self._last_s = time.monotonic()
        async with asyncio.TaskGroup() as callers:
            for caller in range(self._callers):
                callers.create_task(self._call(caller))
        self.phase.ended_s = time.monotonic()

    async def _call(self, caller: int) -> None:
        number = 0
        while not self._stop:
            key = f"load/{caller:03}/{number:06}".encode()
            value = secrets.token_bytes(_VALUE_BYTES)
            number += 1
            try:
                await self._timed(self._store.put(key, value))
                self.written[key] = value
                entry = await self._timed(self._store.get(key))
            except BftError as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                continue
            if entry is None or entry.value != value:
                self.errors.append(f"{key.decode()} does not hold what was written")

    async def _timed(self, call: Awaitable[T]) -> T:
        begin = time.monotonic()
        result = await call
        now = time.monotonic()
        self.phase.operations += 1
        self.phase.latency_us.record_value(max(1, int((now - begin) * 1e6)))
        self.longest_pause_s = max(self.longest_pause_s, now - self._last_s)
        self._last_s = now
        return result
