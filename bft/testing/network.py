"""Links between everybody: seeded delay, loss, duplication, reordering, and directed cuts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bft.testing.options import Options
from bft.testing.scheduler import Scheduler

Address = int  # replicas are 0..n-1, clients come after them
Call = Callable[..., None]


class Network:
    """Delivers by calling; a link is first in, first out, as TCP is, unless reordering is on."""

    def __init__(self, scheduler: Scheduler, options: Options) -> None:
        self._scheduler = scheduler
        self._chance = scheduler.random.random
        self._loss = options.loss
        self._duplicate = options.duplicate
        self._reorder = options.reorder
        self._delay_ns = options.delay_ns
        self._cut: dict[tuple[Address, Address], int] = {}  # directed link -> how many partitions cut it
        self._last_arrival: dict[tuple[Address, Address], int] = {}
        self.sent = 0
        self.lost = 0

    def transmit(self, source: Address, target: Address, deliver: Call, *args: Any) -> None:
        """Call `deliver(*args)` when the message arrives: once, later, twice or never."""
        self.sent += 1
        link = (source, target)
        chance = self._chance
        if link in self._cut or (self._loss and chance() < self._loss):
            self.lost += 1
            return
        copies = 2 if self._duplicate and chance() < self._duplicate else 1
        for _ in range(copies):
            # between a third of the mean and three times as much, seldom that much
            luck = chance()
            arrival = self._scheduler.now_ns + int(self._delay_ns * (0.33 + 0.5 * luck + 0.15 * luck / (1.06 - luck)))
            if self._reorder and chance() < self._reorder:
                arrival += int(chance() * 10 * self._delay_ns)
            else:
                last = self._last_arrival.get(link, 0)
                arrival = max(arrival, last)
                self._last_arrival[link] = arrival
            self._scheduler.at(arrival, deliver, *args)

    def cut(self, links: Iterable[tuple[Address, Address]]) -> None:
        for link in links:
            self._cut[link] = self._cut.get(link, 0) + 1

    def mend(self, links: Iterable[tuple[Address, Address]]) -> None:
        for link in links:
            count = self._cut.pop(link, 0)
            if count > 1:
                self._cut[link] = count - 1

    def heal(self) -> None:
        """From now on every message arrives, in order and within a bound, which nobody knows."""
        self._loss = self._duplicate = self._reorder = 0.0
        self._cut.clear()
