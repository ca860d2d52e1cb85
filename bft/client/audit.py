"""Which requests go to all replicas at once, so that the backups see how long the primary takes over them.

A request that the primary alone knows of may wait as long as the primary likes, up to the client's patience.  Of one
that backups know too they measure the wait, and rotate a primary that is slow for no reason
(`bft.core.primary_monitor`).  Each costs n - 1 messages to and n - 1 from the backups, hence a fraction, drawn at
random so that nobody can tell which: small while all is well, larger while requests take longer than they did.

A primary that hears from backups that it is watched, and hurries then only, gains nothing: the difference shows here,
and nearly all go to all.  So do those that follow one which had to be sent again: the backups heard of that late, and
would take the primary for prompt.
"""

from collections.abc import Callable
from random import SystemRandom
from typing import Final

_USUAL: Final = 1 / 16
_SLOW: Final = 1 / 4  # not more: what is slow may be overloaded
_FAVOURED: Final = 15 / 16  # the rest shows when it is over
_TIMES: Final = 4  # as long counts as slow
_AFTER_RETRY: Final = 4  # requests; the retry went to all as well
_FLOOR_S: Final = 0.05  # what takes less is never slow


class Audit:
    """One client's choice; times in seconds."""

    def __init__(self, chance: Callable[[], float] | None = None) -> None:
        self._chance = chance or SystemRandom().random  # uniform in [0, 1)
        self._quickest: float | None = None  # of late
        self._latest = 0.0
        self._certain = 0  # so many requests to come go to all
        self._smoothed: dict[bool, float] = {}  # by whether all heard of it at once

    @property
    def fraction(self) -> float:
        """Of the requests to come, how many go to all."""
        known, unknown = self._smoothed.get(True), self._smoothed.get(False)
        if known is not None and unknown is not None and _is_longer(unknown, known):
            return _FAVOURED
        return _SLOW if self._quickest is not None and _is_longer(self._latest, self._quickest) else _USUAL

    def chooses(self) -> bool:
        """Whether the next request goes to all."""
        self._certain, certain = max(0, self._certain - 1), self._certain > 0
        return self._chance() < self.fraction or certain

    def observe(self, took: float, *, to_all: bool, retried: bool) -> None:
        """How long a request took from first being sent to its outcome."""
        if retried:
            self._certain = _AFTER_RETRY
        self._latest = took
        if self._quickest is None or took < self._quickest:
            self._quickest = took
        else:
            self._quickest += (took - self._quickest) / 1024
        smoothed = self._smoothed.get(to_all, took)
        self._smoothed[to_all] = smoothed + (took - smoothed) / 8


def _is_longer(one: float, other: float) -> bool:
    return one > max(_FLOOR_S, _TIMES * other)
