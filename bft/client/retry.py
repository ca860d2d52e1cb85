"""How long to wait before asking again."""

from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom

Jitter = Callable[[float], float]

_INITIAL_S = 1.0
_GRANULARITY_S = 0.25  # of less beyond the usual nothing is concluded: a replica that is busy is not a silent one
_CEILING_S = 4.0


def full_spread(delay: float) -> float:
    """Spread ``delay`` over 75 % to 125 %, so that clients that failed together do not return together."""
    return delay * SystemRandom().uniform(0.75, 1.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a request that has no answer is sent again, to all replicas; it executes once however often that is.

    The pauses double, from `first_s` (None: as measured round trips suggest) to `ceiling_s`, and each is spread by
    `jitter`: 0.25 is 75 % to 125 %, so that clients that failed together do not return together.  A call's own timeout
    ends it.  ValueError for what cannot work.
    """

    first_s: float | None = None
    ceiling_s: float = 4.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        if not (self.ceiling_s > 0 and 0 <= self.jitter < 1 and (self.first_s is None or self.first_s > 0)):
            raise ValueError("first_s and ceiling_s must be positive, jitter at least 0 and below 1")

    def spread(self, delay: float) -> float:
        """``delay``, more or less."""
        return delay * SystemRandom().uniform(1 - self.jitter, 1 + self.jitter)


class RoundTrip:
    """Retransmission time-out from measured round trips.  RFC 6298 §2

    Its G is not the clock's, but the hiccup that everybody may have (a flush of the disk, a busy core): round trips
    that were all alike for long would else leave no room for one.
    """

    def __init__(self) -> None:
        self.smoothed: float | None = None  # seconds
        self._variation = 0.0

    def observe(self, sample: float) -> None:
        """Take the round trip of a request that was sent once only: else it is unclear what it measures (Karn)."""
        if self.smoothed is None:
            self.smoothed = sample
            self._variation = sample / 2
        else:
            self._variation += (abs(self.smoothed - sample) - self._variation) / 4
            self.smoothed += (sample - self.smoothed) / 8

    @property
    def timeout(self) -> float:
        """Seconds until a request without an answer is sent again."""
        if self.smoothed is None:
            return _INITIAL_S
        return min(self.smoothed + max(_GRANULARITY_S, 4 * self._variation), _CEILING_S)


class Backoff:
    """Delays that double from ``first`` to ``ceiling``."""

    def __init__(self, first: float, ceiling: float, jitter: Jitter = full_spread) -> None:
        self._first = first
        self._ceiling = max(first, ceiling)
        self._jitter = jitter
        self._next = first

    def next(self) -> float:
        """The next delay, in seconds."""
        delay = self._next
        self._next = min(self._ceiling, 2 * delay)
        return self._jitter(delay)

    def reset(self) -> None:
        self._next = self._first
