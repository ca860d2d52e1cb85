"""Open loop: operations begin when the schedule says so, whether or not earlier ones were answered.

A closed loop waits for a slow answer and so asks less often while things are slow: it omits, in step with the trouble,
the samples that would show it.  Here latency counts from the scheduled beginning; from the sending, which is what a
closed loop would have seen, it is recorded beside.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from bft.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Rate:
    """Operations a second, from the first to the last of the measurement; before it, the first."""

    first: float
    last: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """`2000` or `ramp:100..5000`.  Raises ConfigurationError."""
        first, dots, last = text.removeprefix("ramp:").partition("..")
        try:
            rate = cls(float(first), float(last if dots else first))
        except ValueError:
            rate = cls(0.0, 0.0)
        if bool(dots) != text.startswith("ramp:") or not all(0 < r < float("inf") for r in (rate.first, rate.last)):
            raise ConfigurationError(f'--rate "{text}": write operations a second, as in 2000 or ramp:100..5000')
        return rate

    def __str__(self) -> str:
        return f"{self.first:g}" if self.first == self.last else f"ramp:{self.first:g}..{self.last:g}"

    def at(self, elapsed_s: float, duration_s: float) -> float:
        """The rate at a moment of the measurement; negative: of the warm-up."""
        share = min(max(elapsed_s / duration_s, 0.0), 1.0)
        return self.first + (self.last - self.first) * share

    def schedule(self, warmup_s: float, duration_s: float, *, share: float) -> Iterator[float]:
        """When this share of the operations begins, in seconds of the measurement, ascending."""
        at_s = -warmup_s
        while at_s < duration_s:
            yield at_s
            at_s += 1 / (share * self.at(at_s, duration_s))
